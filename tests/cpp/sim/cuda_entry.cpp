// SPDX-License-Identifier: Apache-2.0
// The CUDA entry points that platforms/cuda calls, over the model. The vendor's own headers declare
// them, so a prototype that drifts does not compile.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstring>

#include "sim_model.h"

using ucm::sim::Model;
using ucm::sim::Way;

namespace {

thread_local int t_device = 0;

ucm::sim::Stream* own(cudaStream_t stream) { return reinterpret_cast<ucm::sim::Stream*>(stream); }
ucm::sim::Event* own(cudaEvent_t event) { return reinterpret_cast<ucm::sim::Event*>(event); }
cudaError_t said(int answer) { return static_cast<cudaError_t>(answer); }

#define UCM_ENTER() \
  if (int injected = Model::the().enter(__func__)) return said(injected)

Way way_of(cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToDevice:
      return Way::load;
    case cudaMemcpyDeviceToHost:
      return Way::dump;
    case cudaMemcpyDeviceToDevice:
      return Way::inside;
    default:
      return Way::host;
  }
}

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

cudaError_t CUDARTAPI cudaGetDeviceCount(int* count) {
  UCM_ENTER();
  if (Model::the().driver_version == 0) return cudaErrorInsufficientDriver;
  *count = ucm::sim::kDevices;
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaGetDevice(int* id) {
  *id = t_device;
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaSetDevice(int id) {
  UCM_ENTER();
  if (id < 0 || id >= ucm::sim::kDevices) return cudaErrorInvalidDevice;
  t_device = id;
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaDriverGetVersion(int* version) {
  *version = Model::the().driver_version;
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaRuntimeGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
const char* CUDARTAPI cudaGetErrorString(cudaError_t error) {
  return error == said(ucm::sim::kInjected) ? "injected failure" : "refused by the simulation";
}
cudaError_t CUDARTAPI cudaDeviceGetPCIBusId(char* text, int bytes, int id) {
  std::snprintf(text, static_cast<size_t>(bytes), "FFFF:%02X:00.0", id);
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags,
                                                   int priority) {
  UCM_ENTER();
  if (flags != cudaStreamNonBlocking || priority > 0 || priority < -5) {
    return said(Model::the().misuse("a stream that waits for the default stream, or priority"));
  }
  return said(Model::the().make_stream(reinterpret_cast<ucm::sim::Stream**>(stream), t_device));
}
cudaError_t CUDARTAPI cudaStreamDestroy(cudaStream_t stream) {
  UCM_ENTER();
  return said(Model::the().destroy_stream(own(stream)));
}
cudaError_t CUDARTAPI cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  UCM_ENTER();
  return said(Model::the().stream_wait(own(stream), own(event)));
}
cudaError_t CUDARTAPI cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  UCM_ENTER();
  if ((flags & cudaEventBlockingSync) == 0) {
    return said(Model::the().misuse("waiting for this event would spin"));
  }
  return said(Model::the().make_event(reinterpret_cast<ucm::sim::Event**>(event)));
}
cudaError_t CUDARTAPI cudaEventDestroy(cudaEvent_t event) {
  return said(Model::the().destroy_event(own(event)));
}
cudaError_t CUDARTAPI cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  UCM_ENTER();
  return said(Model::the().record(own(event), own(stream)));
}
cudaError_t CUDARTAPI cudaEventSynchronize(cudaEvent_t event) {
  UCM_ENTER();
  return said(Model::the().event_wait(own(event)));
}
cudaError_t CUDARTAPI cudaMemcpyAsync(void* dst, const void* src, size_t bytes, cudaMemcpyKind kind,
                                      cudaStream_t stream) {
  UCM_ENTER();
  return said(Model::the().copy(dst, src, bytes, way_of(kind), own(stream)));
}
cudaError_t CUDARTAPI cudaMemcpy2DAsync(void* dst, size_t dst_pitch, const void* src,
                                        size_t src_pitch, size_t width, size_t rows,
                                        cudaMemcpyKind kind, cudaStream_t stream) {
  UCM_ENTER();
  return said(Model::the().copy_rows(dst, dst_pitch, src, src_pitch, width, rows, way_of(kind),
                                     own(stream)));
}
cudaError_t CUDARTAPI cudaHostRegister(void* memory, size_t bytes, unsigned flags) {
  UCM_ENTER();
  if (flags != (cudaHostRegisterPortable | cudaHostRegisterMapped)) {
    return said(Model::the().misuse("host memory is not registered for every device and kernel"));
  }
  return said(Model::the().register_host(memory, bytes));
}
cudaError_t CUDARTAPI cudaHostUnregister(void* memory) {
  UCM_ENTER();
  return said(Model::the().unregister_host(memory));
}
cudaError_t CUDARTAPI cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  UCM_ENTER();
  if (!Model::the().is_pinned(host)) return cudaErrorInvalidValue;
  *device = host;
  return cudaSuccess;
}
cudaError_t CUDARTAPI cudaMalloc(void** memory, size_t bytes) {
  UCM_ENTER();
  return said(Model::the().alloc(memory, bytes));
}
cudaError_t CUDARTAPI cudaFree(void* memory) { return said(Model::the().free(memory)); }
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
