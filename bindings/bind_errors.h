// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "ucm/status.h"

namespace ucm::bindings {

// The Python exception object (class of ucm.errors by code) for a Status. Needs the GIL.
nanobind::object make_error(const Status& status, const std::vector<uint32_t>& failed_rows = {});

// The single place where a Status becomes a raised Python exception. Needs the GIL.
void raise_unless_ok(const Status& status, const std::vector<uint32_t>& failed_rows = {});

template <typename T>
T value_or_raise(Result<T> result) {
  raise_unless_ok(result.status());
  return std::move(result).value();
}

}  // namespace ucm::bindings
