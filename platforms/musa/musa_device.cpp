// SPDX-License-Identifier: Apache-2.0
#include "measure.h"
#include "musa_calls.h"

extern "C" UCM_API const ucm::PlatformEntry* ucm_platform_entry() {
  static const ucm::PlatformEntry entry = {ucm::kPlatformAbi, "musa",
                                           ucm::cuda_like::count_devices<ucm::MusaCalls>,
                                           ucm::cuda_like::make_device<ucm::MusaCalls>};
  return &entry;
}
