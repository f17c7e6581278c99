// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/device.h"
#include "ucm/log.h"
#include "ucm/memory.h"
#include "ucm/pipeline.h"

namespace nb = nanobind;

namespace ucm::bindings {
namespace {

LogLevel parse_level(const std::string& level) {
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error", "off"};
  for (int i = 0; i < 5; ++i) {
    if (level == kNames[i]) return static_cast<LogLevel>(i);
  }
  raise_unless_ok(make_status(Code::invalid_argument,
                              "log level '%s' is none of debug, info, warning, error, off",
                              level.c_str()));
  return LogLevel::off;
}

// The callable is shared with threads that log; its last reference is dropped under the GIL.
void set_sink(nb::object callable, const std::string& level) {
  const LogLevel parsed = parse_level(level);
  LogSink sink;
  if (!callable.is_none()) {
    std::shared_ptr<nb::object> shared(new nb::object(std::move(callable)), [](nb::object* object) {
      if (!Py_IsInitialized()) return;
      const nb::gil_scoped_acquire locked;
      delete object;
    });
    sink = [shared](LogLevel line_level, std::string_view message) {
      if (!Py_IsInitialized()) return;
      const nb::gil_scoped_acquire locked;
      try {
        (*shared)(static_cast<int>(line_level), nb::str(message.data(), message.size()));
      } catch (nb::python_error& error) {
        error.discard_as_unraisable("ucm log sink");
      }
    };
  }
  const nb::gil_scoped_release unlocked;
  set_log_sink(std::move(sink), parsed);
}

nb::list platform_reports() {
  nb::list out;
  for (const PlatformReport& report : platforms()) {
    nb::dict entry;
    entry["name"] = report.name;
    entry["loaded"] = report.loaded;
    entry["devices"] = report.devices;
    entry["reason"] = report.reason;
    out.append(entry);
  }
  return out;
}

nb::dict pool_stats() {
  const PoolStats stats = process_pool_stats();
  nb::dict out;
  out["total_allocated"] = stats.total_bytes;
  out["currently_used"] = stats.used_bytes;
  out["peak_allocated"] = stats.peak_bytes;
  out["page_size"] = stats.page_bytes;
  out["kind"] = stats.kind;
  return out;
}

}  // namespace

void bind_system(nb::module_& module) {
  module.def("version", [] { return UCM_VERSION; }, nb::sig("def version() -> str"));
  module.def("stage_names", &stage_names);
  module.def("option_names", &option_names);
  module.def("platforms", &platform_reports,
             nb::sig("def platforms() -> list[dict[str, typing.Any]]"),
             "One dict(name, loaded, devices, reason) per platform module of this build.");
  module.def("pool_stats", &pool_stats, nb::sig("def pool_stats() -> dict[str, typing.Any]"),
             "Bytes of all pools of this process.");
  module.def(
      "set_log_sink", &set_sink, nb::arg("callable").none(), nb::arg("level") = "info",
      nb::sig("def set_log_sink(callable: collections.abc.Callable[[int, str], None] | None, "
              "level: str = 'info') -> None"),
      "callable(level: int 0..3, message: str) gets every line; None restores stderr.");
}

}  // namespace ucm::bindings
