// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string_view>

#include "ucm/version.h"

namespace ucm {

enum class LogLevel : unsigned char { debug, info, warning, error, off };

using LogSink = std::function<void(LogLevel level, std::string_view message)>;

// Where log lines go: stderr (warning and above) until a sink is set. Thread-safe; the sink may be
// called from any thread and must not call back into ucm. An empty sink restores stderr.
UCM_API void set_log_sink(LogSink sink, LogLevel level);

// One line at `level`, printf-style; dropped cheaply when the level is off.
UCM_API void log(LogLevel level, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace ucm
