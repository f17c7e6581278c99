// SPDX-License-Identifier: Apache-2.0
#include "maca_calls.h"
#include "measure.h"

extern "C" UCM_API const ucm::PlatformEntry* ucm_platform_entry() {
  static const ucm::PlatformEntry entry = {ucm::kPlatformAbi, "maca",
                                           ucm::cuda_like::count_devices<ucm::MacaCalls>,
                                           ucm::cuda_like::make_device<ucm::MacaCalls>};
  return &entry;
}
