// SPDX-License-Identifier: Apache-2.0
// A platform module that is not quite right; how is said by the build.
#include "ucm/device.h"

#ifdef UCM_ODD_NEEDS_DRIVER
extern "C" int vendor_driver_call();
#endif

namespace {

ucm::Result<int> count() {
#ifdef UCM_ODD_NEEDS_DRIVER
  return vendor_driver_call();
#else
  return ucm::Status(ucm::Code::unavailable, "platform absent: the driver finds no device");
#endif
}

ucm::Result<std::unique_ptr<ucm::Device>> make(int) {
  return ucm::Status(ucm::Code::unavailable, "platform absent: no device");
}

}  // namespace

#ifndef UCM_ODD_MUTE
extern "C" __attribute__((visibility("default"))) const ucm::PlatformEntry* ucm_platform_entry() {
  static const ucm::PlatformEntry entry = {UCM_ODD_ABI, UCM_ODD_NAME, count, make};
  return &entry;
}
#else
// Keeps the functions that nobody asks for.
extern "C" __attribute__((visibility("default"))) bool ucm_other_entry() {
  return count().ok() || make(0).ok();
}
#endif
