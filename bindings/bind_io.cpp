// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/inspect.h"

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

}  // namespace

void bind_io(nb::module_& module) {
  module.def("inspect", &inspect, nb::arg("path"), nb::arg("verify"), nb::arg("on_block"),
             "Calls on_block(dict) for every stored block below path; verify reads all payloads.");
}

}  // namespace ucm::bindings
