// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "host_copy.h"
#include "ucm/device.h"

namespace ucm {
namespace {

// Copies run at once on the calling thread, so a stream has nothing to remember.
class CpuDevice : public Device {
 public:
  const char* platform() const override { return "cpu"; }
  int id() const override { return 0; }
  bool asynchronous() const override { return false; }
  Status bind_thread() override { return {}; }

  Result<StreamHandle> make_stream(Direction) override { return StreamHandle{this}; }
  void destroy_stream(StreamHandle) override {}
  Status wait_event(StreamHandle, uintptr_t event) override {
    if (event == 0) return {};
    return make_status(Code::invalid_argument,
                       "platform cpu: an event was given, but host memory has no streams; pass 0");
  }
  Status copy(StreamHandle, Direction, std::span<const CopyPiece> pieces) override {
    for (const CopyPiece& piece : pieces) host_copy(piece.dst, piece.src, piece.bytes);
    return {};
  }
  Status synchronize(StreamHandle) override { return {}; }
  std::vector<std::string> copy_methods() const override { return {"chosen"}; }
  Status use_method(StreamHandle, const std::string&) override { return {}; }

  Result<EventHandle> make_event() override { return EventHandle{this}; }
  void destroy_event(EventHandle) override {}
  Status record(EventHandle, StreamHandle) override { return {}; }
  Status wait_host(EventHandle) override { return {}; }
  Status wait_engine(uintptr_t, EventHandle) override { return {}; }

  Status register_host(void*, size_t) override { return {}; }
  Status unregister_host(void*) override { return {}; }
  Result<void*> alloc_memory(size_t bytes) override {
    void* memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (memory) return memory;
    return make_status(Code::out_of_memory, "platform cpu: %zu bytes", bytes);
  }
  void free_memory(void* memory) override { std::free(memory); }
  int numa_node() const override { return -1; }
};

Result<int> count() { return 1; }

Result<std::unique_ptr<Device>> make(int) {
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>());
}

}  // namespace
}  // namespace ucm

extern "C" UCM_API const ucm::PlatformEntry* ucm_platform_entry() {
  static const ucm::PlatformEntry entry = {ucm::kPlatformAbi, "cpu", ucm::count, ucm::make};
  return &entry;
}
