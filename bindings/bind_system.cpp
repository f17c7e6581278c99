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

// False when Python wants to stop; the exception then waits in the interpreter.
bool tell_row(const nb::callable& on_row, const std::string& method, size_t piece_bytes) {
  const nb::gil_scoped_acquire locked;
  try {
    on_row(method, piece_bytes);
  } catch (nb::python_error& error) {
    error.restore();
    return false;
  }
  return PyErr_CheckSignals() == 0;
}

nb::dict copy_figures(const std::string& platform, int device_id, size_t bytes,
                      const std::vector<size_t>& piece_bytes, int rounds,
                      const nb::callable& on_row) {
  CopySurvey survey;
  survey.bytes = bytes;
  survey.piece_bytes = piece_bytes;
  survey.rounds = rounds;
  survey.on_row = [&on_row](const std::string& method, size_t size) {
    return tell_row(on_row, method, size);
  };
  Result<CopyFigures> figures = [&]() -> Result<CopyFigures> {
    const nb::gil_scoped_release unlocked;
    UCM_TRY_ASSIGN(const std::shared_ptr<Device> device, open_device(platform, device_id));
    return measure_copies(device.get(), survey);
  }();
  if (PyErr_Occurred()) throw nb::python_error();
  const CopyFigures measured = value_or_raise(std::move(figures));
  nb::list rows;
  for (const CopyFigure& figure : measured.rows) {
    nb::dict row;
    row["method"] = figure.method;
    row["piece_bytes"] = figure.piece_bytes;
    row["pieces"] = figure.pieces;
    row["load_gb_per_s"] = figure.load;
    row["dump_gb_per_s"] = figure.dump;
    row["both_gb_per_s"] = figure.both;
    rows.append(row);
  }
  nb::dict out;
  out["pinned"] = measured.pinned;
  out["rows"] = rows;
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
  module.def(
      "copy_figures", &copy_figures, nb::arg("platform"), nb::arg("device_id"), nb::arg("bytes"),
      nb::arg("piece_bytes"), nb::arg("rounds"), nb::arg("on_row"),
      nb::sig("def copy_figures(platform: str, device_id: int, bytes: int, "
              "piece_bytes: collections.abc.Sequence[int], rounds: int, "
              "on_row: collections.abc.Callable[[str, int], None]) -> "
              "dict[str, typing.Any]"),
      "How fast scattered pieces are copied, each method by piece size and direction, beside "
      "one large copy; on_row(method, piece_bytes) is called before each row.");
  module.def("pool_stats", &pool_stats, nb::sig("def pool_stats() -> dict[str, typing.Any]"),
             "Bytes of all pools of this process.");
  module.def(
      "set_log_sink", &set_sink, nb::arg("callable").none(), nb::arg("level") = "info",
      nb::sig("def set_log_sink(callable: collections.abc.Callable[[int, str], None] | None, "
              "level: str = 'info') -> None"),
      "callable(level: int 0..3, message: str) gets every line; None restores stderr.");
}

}  // namespace ucm::bindings
