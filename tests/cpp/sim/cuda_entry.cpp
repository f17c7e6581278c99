// SPDX-License-Identifier: Apache-2.0
// The CUDA entry points that platforms/cuda calls, over the model.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstring>

#define UCM_RT(name) cuda##name
#include "like_entries.h"

namespace {

int copy_batch(CUdeviceptr* dsts, CUdeviceptr* srcs, const size_t* sizes, size_t count,
               const CUmemcpyAttributes* attributes, const size_t* places, size_t kinds,
               CUstream stream) {
  Model& model = Model::the();
  if (int injected = model.enter("cuMemcpyBatchAsync")) return injected;
  if (!stream) return model.misuse("a batch copy was given to the default stream");
  if (kinds != 1 || places[0] != 0) return model.misuse("the first attribute is not for copy 0");
  for (size_t i = 0; i < count; ++i) {
    auto* dst = reinterpret_cast<void*>(dsts[i]);
    const auto* src = reinterpret_cast<const void*>(srcs[i]);
    const Way way = model.is_pinned(src) ? Way::load : Way::dump;
    if (way == Way::dump && attributes->srcAccessOrder != CU_MEMCPY_SRC_ACCESS_ORDER_STREAM) {
      return model.misuse("a batch reads device memory out of stream order");
    }
    if (int answer = model.copy(dst, src, sizes[i], way, own(stream))) return answer;
  }
  return 0;
}

CUresult batch_with_fail_index(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                               CUmemcpyAttributes* attributes, size_t* places, size_t kinds,
                               size_t* fail_index, CUstream stream) {
  if (!fail_index) return static_cast<CUresult>(Model::the().misuse("no fail index was given"));
  return static_cast<CUresult>(
      copy_batch(dsts, srcs, sizes, count, attributes, places, kinds, stream));
}

CUresult batch_without_fail_index(CUdeviceptr* dsts, CUdeviceptr* srcs, size_t* sizes, size_t count,
                                  CUmemcpyAttributes* attributes, size_t* places, size_t kinds,
                                  CUstream stream) {
  return static_cast<CUresult>(
      copy_batch(dsts, srcs, sizes, count, attributes, places, kinds, stream));
}

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

cudaError_t CUDARTAPI cudaDriverGetVersion(int* version) {
  *version = Model::the().driver_version;
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t CUDARTAPI cudaHostAlloc(void** memory, size_t bytes, unsigned) {
  UCM_ENTER();
  return said(Model::the().alloc_host(memory, bytes));
}
cudaError_t CUDARTAPI cudaFreeHost(void* memory) { return said(Model::the().free_host(memory)); }

#if CUDART_VERSION >= 12080
cudaError_t CUDARTAPI cudaGetDriverEntryPointByVersion(const char* symbol, void** function,
                                                       unsigned version, unsigned long long,
                                                       cudaDriverEntryPointQueryResult* result) {
  UCM_ENTER();
  *function = nullptr;
  *result = cudaDriverEntryPointSymbolNotFound;
  if (std::strcmp(symbol, "cuMemcpyBatchAsync") != 0) return cudaSuccess;
  if (static_cast<int>(version) > Model::the().driver_version) return cudaErrorInvalidValue;
  *function = version >= 13000 ? reinterpret_cast<void*>(&batch_without_fail_index)
                               : reinterpret_cast<void*>(&batch_with_fail_index);
  *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
#endif

#pragma GCC visibility pop
}
