// SPDX-License-Identifier: Apache-2.0
#include "bind_errors.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;

namespace ucm::bindings {

nb::object make_error(const Status& status, const std::vector<uint32_t>& failed_rows) {
  const nb::object classes = nb::module_::import_("ucm.errors").attr("BY_CODE");
  const std::string code(name(status.code()));
  return classes[nb::str(code.c_str())](status.message(), nb::arg("failed_rows") = failed_rows);
}

void raise_unless_ok(const Status& status, const std::vector<uint32_t>& failed_rows) {
  if (status.ok()) return;
  const nb::object error = make_error(status, failed_rows);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw nb::python_error();
}

}  // namespace ucm::bindings
