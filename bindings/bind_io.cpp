// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/inspect.h"
#include "ucm/io_capabilities.h"

namespace nb = nanobind;

namespace ucm::bindings {
namespace {

nb::dict describe(const BlockRecord& record) {
  nb::dict out;
  const std::string hex = record.key.hex();
  out["key"] = hex;
  out["stage"] = record.stage;
  out["location"] = record.location;
  out["bytes"] = record.bytes;
  out["layout_id"] = record.layout_id;
  out["written_ns"] = record.written_ns;
  out["damaged"] = record.damaged;
  out["damage"] = record.damage;
  return out;
}

void inspect(const std::string& path, bool verify, const nb::callable& on_block) {
  bool raised = false;
  Status status;
  {
    const nb::gil_scoped_release unlocked;
    status = inspect_blocks(path, verify, [&](const BlockRecord& record) {
      const nb::gil_scoped_acquire locked;
      try {
        on_block(describe(record));
        raised = PyErr_CheckSignals() != 0;
      } catch (nb::python_error& error) {
        error.restore();
        raised = true;
      }
      return !raised;
    });
  }
  if (raised) throw nb::python_error();
  raise_unless_ok(status);
}

nb::dict capabilities(const std::string& path) {
  Result<IoCapabilities> found = [&] {
    const nb::gil_scoped_release unlocked;
    return io_capabilities(path);
  }();
  const IoCapabilities c = value_or_raise(std::move(found));
  nb::dict out;
  out["file_system"] = c.file_system;
  out["total_bytes"] = c.total_bytes;
  out["free_bytes"] = c.free_bytes;
  out["writable"] = c.writable;
  out["o_direct"] = c.o_direct;
  out["direct_alignment"] = c.direct_alignment;
  out["direct_reason"] = c.direct_reason;
  out["io_uring"] = c.io_uring;
  out["io_uring_reason"] = c.io_uring_reason;
  return out;
}

}  // namespace

void bind_io(nb::module_& module) {
  module.def("inspect", &inspect, nb::arg("path"), nb::arg("verify"), nb::arg("on_block"),
             nb::sig("def inspect(path: str, verify: bool, on_block: "
                     "collections.abc.Callable[[dict[str, typing.Any]], None]) -> None"),
             "Calls on_block(dict) for every stored block below path; verify reads all payloads.");
  module.def(
      "io_capabilities", &capabilities, nb::arg("path"),
      nb::sig("def io_capabilities(path: str) -> dict[str, typing.Any]"),
      "What the storage below a folder can do: O_DIRECT, io_uring, free bytes, and why not.");
}

}  // namespace ucm::bindings
