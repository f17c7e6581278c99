// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <musa_runtime.h>

#include <string>

#define UCM_RT(name) musa##name
#include "mapped_calls.h"

namespace ucm {

// The MUSA runtime in the words of cuda_like: no batch copy, no kernels of ours.
struct MusaCalls : cuda_like::MappedCalls {
  using Batch = cuda_like::NoBatch;
  static constexpr const char* kPlatform = "musa";
  static constexpr bool kKernels = false;

  static std::string unusable() {
    int count = 0;
    const musaError_t error = musaGetDeviceCount(&count);
    return error == musaSuccess ? "the driver finds no device" : musaGetErrorString(error);
  }
  static Batch find_batch() { return {}; }
  static int register_host(void* address, size_t bytes) {
    return musaHostRegister(address, bytes, musaHostRegisterPortable);
  }
};

}  // namespace ucm
