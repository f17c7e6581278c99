// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

namespace ucm::bindings {

void bind_faults(nanobind::module_& module);
void bind_host_pages(nanobind::module_& module);
void bind_io(nanobind::module_& module);
void bind_page_service(nanobind::module_& module);
void bind_pipeline(nanobind::module_& module);
void bind_system(nanobind::module_& module);
void bind_task(nanobind::module_& module);

}  // namespace ucm::bindings
