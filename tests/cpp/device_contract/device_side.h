// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ucm::test {

// The engine's half of a test: device memory, and streams that work on it beside the store's.
// Memory calls return when their bytes are in place.
class DeviceSide {
 public:
  virtual ~DeviceSide() = default;
  virtual std::byte* alloc(size_t bytes) = 0;
  virtual void free(std::byte* memory) = 0;
  virtual void write(std::byte* device, const void* host, size_t bytes) = 0;
  virtual void read(void* host, const std::byte* device, size_t bytes) = 0;

  virtual uintptr_t make_stream() = 0;
  virtual void destroy_stream(uintptr_t stream) = 0;
  virtual uintptr_t make_event() = 0;
  virtual void destroy_event(uintptr_t event) = 0;
  virtual void record(uintptr_t event, uintptr_t stream) = 0;
  virtual void synchronize(uintptr_t stream) = 0;
  // What a kernel of the engine does: reads and writes device memory, some time later.
  virtual void copy_inside(std::byte* dst, const std::byte* src, size_t bytes,
                           uintptr_t stream) = 0;

  // Later work on the stream waits until the answer is called. Call it once, before the stream
  // ends.
  virtual std::function<void()> hold(uintptr_t stream) = 0;

  // What a simulated device noticed.
  virtual std::vector<std::string> mistakes() = 0;
};

// The accelerators this binary can test; never empty.
std::vector<std::string> device_platforms();
std::unique_ptr<DeviceSide> make_side();

}  // namespace ucm::test
