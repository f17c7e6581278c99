// SPDX-License-Identifier: Apache-2.0
#include "binders.h"

NB_MODULE(_core, module) {
  // A forked child leaves the pipelines of its parent behind on purpose.
  nanobind::set_leak_warnings(false);
  module.doc() = "Native core of ucm. Use ucm.store and its neighbours; this face may change.";
  ucm::bindings::bind_task(module);
  ucm::bindings::bind_pipeline(module);
  ucm::bindings::bind_io(module);
  ucm::bindings::bind_page_service(module);
  ucm::bindings::bind_system(module);
  ucm::bindings::bind_faults(module);
  ucm::bindings::bind_host_pages(module);
}
