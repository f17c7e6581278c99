// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mcr/mc_runtime_api.h>

#include <string>

#define UCM_RT(name) mc##name
#include "mapped_calls.h"

namespace ucm {

// The MACA runtime in the words of cuda_like: no batch copy, no kernels of ours.
struct MacaCalls : cuda_like::MappedCalls {
  using Batch = cuda_like::NoBatch;
  static constexpr const char* kPlatform = "maca";
  static constexpr bool kKernels = false;

  static std::string unusable() {
    int count = 0;
    const mcError_t error = mcGetDeviceCount(&count);
    return error == mcSuccess ? "the driver finds no device" : mcGetErrorString(error);
  }
  static Batch find_batch() { return {}; }
  static int register_host(void* address, size_t bytes) {
    return mcHostRegister(address, bytes, mcHostRegisterPortable | mcHostRegisterMapped);
  }
};

}  // namespace ucm
