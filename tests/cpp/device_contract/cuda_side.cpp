// SPDX-License-Identifier: Apache-2.0
// A real CUDA device, for tests/gpu.
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>

#include "device_side.h"

namespace ucm::test {
namespace {

// Without its own half of a test nothing can be said about ours.
void check(cudaError_t error, const char* call) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", call, cudaGetErrorString(error));
  std::abort();
}
#define UCM_CHECK(call) check(call, #call)

void wait_for_gate(void* gate) { static_cast<std::promise<void>*>(gate)->get_future().wait(); }

void sleep_a_little(void*) { std::this_thread::sleep_for(std::chrono::microseconds(300)); }

class CudaSide : public DeviceSide {
 public:
  std::byte* alloc(size_t bytes) override {
    void* memory = nullptr;
    UCM_CHECK(cudaMalloc(&memory, bytes));
    return static_cast<std::byte*>(memory);
  }
  void free(std::byte* memory) override { UCM_CHECK(cudaFree(memory)); }
  void write(std::byte* device, const void* host, size_t bytes) override {
    UCM_CHECK(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    // A copy from pageable memory may return before the device has it.
    UCM_CHECK(cudaStreamSynchronize(cudaStreamLegacy));
  }
  void read(void* host, const std::byte* device, size_t bytes) override {
    UCM_CHECK(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
  }

  uintptr_t make_stream() override {
    cudaStream_t stream = nullptr;
    UCM_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return reinterpret_cast<uintptr_t>(stream);
  }
  void destroy_stream(uintptr_t stream) override { UCM_CHECK(cudaStreamDestroy(own(stream))); }
  uintptr_t make_event() override {
    cudaEvent_t event = nullptr;
    UCM_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return reinterpret_cast<uintptr_t>(event);
  }
  void destroy_event(uintptr_t event) override { UCM_CHECK(cudaEventDestroy(known(event))); }
  void record(uintptr_t event, uintptr_t stream) override {
    UCM_CHECK(cudaEventRecord(known(event), own(stream)));
  }
  void synchronize(uintptr_t stream) override { UCM_CHECK(cudaStreamSynchronize(own(stream))); }
  void copy_inside(std::byte* dst, const std::byte* src, size_t bytes, uintptr_t stream) override {
    UCM_CHECK(cudaLaunchHostFunc(own(stream), sleep_a_little, nullptr));
    UCM_CHECK(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, own(stream)));
  }
  std::function<void()> hold(uintptr_t stream) override {
    gates_.push_back(std::make_unique<std::promise<void>>());
    UCM_CHECK(cudaLaunchHostFunc(own(stream), wait_for_gate, gates_.back().get()));
    return [gate = gates_.back().get()] { gate->set_value(); };
  }
  std::vector<std::string> mistakes() override { return {}; }

 private:
  static cudaStream_t own(uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }
  static cudaEvent_t known(uintptr_t event) { return reinterpret_cast<cudaEvent_t>(event); }

  std::vector<std::unique_ptr<std::promise<void>>> gates_;
};

}  // namespace

std::vector<std::string> device_platforms() { return {"cuda"}; }
std::unique_ptr<DeviceSide> make_side() { return std::make_unique<CudaSide>(); }

}  // namespace ucm::test
