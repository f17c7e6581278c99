// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <string>

#define UCM_RT(name) cuda##name
#include "mapped_calls.h"
#include "piece_walk.h"

// In piece_kernel.cu.
int ucm_launch_piece_kernel(const ucm::cuda_like::DevicePiece* pieces, size_t count,
                            cudaStream_t stream);

namespace ucm {

// cuMemcpyBatchAsync came with CUDA 12.8 and lost its fail index with 13.0: which one there is
// depends on the driver that is found, not on the toolkit of the build.
class CudaBatch {
 public:
  static CudaBatch find() {
    CudaBatch batch;
#if CUDART_VERSION >= 12080
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess) return batch;
    if (driver >= 13000) batch.plain_ = reinterpret_cast<Plain>(entry(13000));
    if (!batch.plain_ && driver >= 12080) batch.first_ = reinterpret_cast<First>(entry(12080));
#endif
    return batch;
  }
  explicit operator bool() const { return plain_ || first_; }

  // One driver call for all pieces, on a stream of ours. A dump's source is written by earlier work
  // of the engine, so it is read in stream order; a load's source is host memory that is complete.
  int operator()(void** dsts, void** srcs, size_t* sizes, size_t count, bool load,
                 cudaStream_t stream) const {
#if CUDART_VERSION >= 12080
    CUmemcpyAttributes attributes = {};
    attributes.srcAccessOrder =
        load ? CU_MEMCPY_SRC_ACCESS_ORDER_ANY : CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
    attributes.flags = CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE;
    size_t first_copy = 0;
    auto* to = reinterpret_cast<CUdeviceptr*>(dsts);
    auto* from = reinterpret_cast<CUdeviceptr*>(srcs);
    if (plain_) return plain_(to, from, sizes, count, &attributes, &first_copy, 1, stream);
    size_t failed = 0;
    return first_(to, from, sizes, count, &attributes, &first_copy, 1, &failed, stream);
#else
    return cudaErrorNotSupported;
#endif
  }

 private:
#if CUDART_VERSION >= 12080
  using First = CUresult (*)(CUdeviceptr*, CUdeviceptr*, size_t*, size_t, CUmemcpyAttributes*,
                             size_t*, size_t, size_t*, CUstream);
  using Plain = CUresult (*)(CUdeviceptr*, CUdeviceptr*, size_t*, size_t, CUmemcpyAttributes*,
                             size_t*, size_t, CUstream);
  static void* entry(unsigned version) {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t error = cudaGetDriverEntryPointByVersion("cuMemcpyBatchAsync", &function,
                                                               version, cudaEnableDefault, &result);
    return error == cudaSuccess && result == cudaDriverEntryPointSuccess ? function : nullptr;
  }
#else
  using First = void*;
  using Plain = void*;
#endif
  First first_ = nullptr;
  Plain plain_ = nullptr;
};

// The CUDA runtime in the words of cuda_like.
struct CudaCalls : cuda_like::MappedCalls {
  using Batch = CudaBatch;
  static constexpr const char* kPlatform = "cuda";
  static constexpr bool kKernels = true;

  static std::string unusable() {
    int driver = 0;
    int built = 0;
    (void)cudaRuntimeGetVersion(&built);
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
      return "there is no NVIDIA driver on this machine (libcuda.so.1 was not found)";
    }
    if (driver / 1000 < built / 1000) {
      return "the driver is made for CUDA " + version(driver) + " and this module for CUDA " +
             version(built) + ": update the driver, or build with an older toolkit";
    }
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    return error == cudaSuccess ? "the driver finds no device" : cudaGetErrorString(error);
  }
  static Batch find_batch() { return CudaBatch::find(); }
  static int launch_pieces(const cuda_like::DevicePiece* pieces, size_t count, Stream stream) {
    return ucm_launch_piece_kernel(pieces, count, stream);
  }
  static int register_host(void* address, size_t bytes) {
    return cudaHostRegister(address, bytes, cudaHostRegisterPortable | cudaHostRegisterMapped);
  }
  static int alloc_host(void** memory, size_t bytes) {
    return cudaHostAlloc(memory, bytes, cudaHostAllocPortable | cudaHostAllocMapped);
  }
  static int free_host(void* memory) { return cudaFreeHost(memory); }

 private:
  static std::string version(int number) {
    return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
  }
};

}  // namespace ucm
