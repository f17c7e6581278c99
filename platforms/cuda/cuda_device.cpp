// SPDX-License-Identifier: Apache-2.0
#include "cuda_calls.h"
#include "measure.h"

extern "C" UCM_API const ucm::PlatformEntry* ucm_platform_entry() {
  static const ucm::PlatformEntry entry = {ucm::kPlatformAbi, "cuda",
                                           ucm::cuda_like::count_devices<ucm::CudaCalls>,
                                           ucm::cuda_like::make_device<ucm::CudaCalls>};
  return &entry;
}
