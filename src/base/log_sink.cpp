// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <mutex>

#include "ucm/log.h"

namespace ucm {
namespace {

struct SinkState {
  std::mutex mutex;
  std::shared_ptr<const LogSink> sink;
  std::atomic<LogLevel> level{LogLevel::warning};
};

// Never destroyed: threads may still log while the process ends.
SinkState& state() {
  static SinkState* const instance = new SinkState;
  return *instance;
}

}  // namespace

void set_log_sink(LogSink sink, LogLevel level) {
  SinkState& s = state();
  const std::lock_guard lock(s.mutex);
  s.sink = sink ? std::make_shared<const LogSink>(std::move(sink)) : nullptr;
  s.level.store(s.sink ? level : LogLevel::warning, std::memory_order_relaxed);
}

void log(LogLevel level, const char* format, ...) {
  SinkState& s = state();
  if (level < s.level.load(std::memory_order_relaxed)) return;
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  const int length = std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  if (length < 0) return;
  std::shared_ptr<const LogSink> sink;
  {
    const std::lock_guard lock(s.mutex);
    sink = s.sink;
  }
  if (sink) {
    (*sink)(level, text);
  } else {
    std::fprintf(stderr, "ucm: %s\n", text);
  }
}

}  // namespace ucm
