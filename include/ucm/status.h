// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "ucm/version.h"

// Status and Result<T>: how every fallible call of ucm answers. Nothing of ours is thrown.
// Both are values; they are safe to copy between threads and own their text.
namespace ucm {

// A closed list. `name(code)` is the spelling used in logs, metrics and Python (`error.code`).
enum class Code : unsigned char {
  ok,
  invalid_argument,
  not_found,
  no_space,
  out_of_memory,
  io_error,
  device_error,
  timeout,
  cancelled,
  unavailable,
  unsupported,
  corruption,
  internal,
};

inline constexpr int kCodeCount = static_cast<int>(Code::internal) + 1;

UCM_API std::string_view name(Code code);

// A code and the sentence a reader needs: the noun, the key prefix, the size, the path, the errno.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::ok; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  // "io_error: disk: read 3fa9...: Input/output error"; "ok" for success.
  UCM_API std::string to_string() const;
  // Puts `context` and ": " before the message; used at room borders.
  Status with_context(std::string_view context) && {
    if (!ok()) message_.insert(0, std::string(context) + ": ");
    return std::move(*this);
  }

 private:
  Code code_ = Code::ok;
  std::string message_;
};

// Builds a Status from a printf-style format. `errno_status` picks the code from the error number
// (ENOSPC, EDQUOT -> no_space; ENOENT -> not_found; ENOMEM -> out_of_memory; else io_error)
// and appends strerror.
UCM_API Status make_status(Code code, const char* format, ...)
    __attribute__((format(printf, 2, 3)));
UCM_API Status errno_status(int error, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

// A value or the Status that says why there is none. `value()` requires `ok()`.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<1>, std::move(value)) {}         // NOLINT implicit
  Result(Status status) : state_(std::in_place_index<0>, std::move(status)) {}  // NOLINT implicit

  bool ok() const { return state_.index() == 1; }
  T& value() & { return std::get<1>(state_); }
  const T& value() const& { return std::get<1>(state_); }
  T&& value() && { return std::get<1>(std::move(state_)); }
  Status status() const { return ok() ? Status() : std::get<0>(state_); }

 private:
  std::variant<Status, T> state_;
};

}  // namespace ucm

// Returns the Status of `expression` from the enclosing function when it is not ok.
#define UCM_TRY(expression)                                            \
  do {                                                                 \
    if (::ucm::Status ucm_status_ = (expression); !ucm_status_.ok()) { \
      return ucm_status_;                                              \
    }                                                                  \
  } while (false)

#define UCM_CONCAT_INNER_(a, b) a##b
#define UCM_CONCAT_(a, b) UCM_CONCAT_INNER_(a, b)
#define UCM_TRY_ASSIGN_(result, target, expression) \
  auto result = (expression);                       \
  if (!result.ok()) return result.status();         \
  target = std::move(result).value()

// `UCM_TRY_ASSIGN(auto file, open(path));` assigns the value or returns the Status.
#define UCM_TRY_ASSIGN(target, expression) \
  UCM_TRY_ASSIGN_(UCM_CONCAT_(ucm_result_, __LINE__), target, expression)
