// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "ucm/status.h"

namespace ucm {
namespace {

constexpr std::array<std::string_view, kCodeCount> kNames = {
    "ok",          "invalid_argument", "not_found", "no_space",  "out_of_memory",
    "io_error",    "device_error",     "timeout",   "cancelled", "unavailable",
    "unsupported", "corruption",       "internal"};

std::string format_text(const char* format, va_list arguments) {
  char text[1024];
  const int length = std::vsnprintf(text, sizeof text, format, arguments);
  if (length < 0) return format;
  return std::string(text, std::min<size_t>(static_cast<size_t>(length), sizeof text - 1));
}

Code code_of(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Code::no_space;
    case ENOENT:
      return Code::not_found;
    case ENOMEM:
      return Code::out_of_memory;
    case ETIMEDOUT:
      return Code::timeout;
    case ECANCELED:
      return Code::cancelled;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::unsupported;
    default:
      return Code::io_error;
  }
}

}  // namespace

std::string_view name(Code code) { return kNames[static_cast<size_t>(code)]; }

std::string Status::to_string() const {
  std::string text(name(code_));
  if (!message_.empty()) text += ": " + message_;
  return text;
}

Status make_status(Code code, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string text = format_text(format, arguments);
  va_end(arguments);
  return Status(code, std::move(text));
}

Status errno_status(int error, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::string text = format_text(format, arguments);
  va_end(arguments);
  char reason[128];
  text += ": ";
  text += strerror_r(error, reason, sizeof reason);
  text += " (errno " + std::to_string(error) + ")";
  return Status(code_of(error), std::move(text));
}

}  // namespace ucm
