// SPDX-License-Identifier: Apache-2.0
#include <acl/acl_rt.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "acl_generations.h"
#include "ucm/device.h"
#include "ucm/log.h"

namespace ucm {
namespace {

std::string text(aclError error) {
  const char* message = aclGetRecentErrMsg();
  const std::string number = "ACL error " + std::to_string(error);
  return message && *message ? number + ": " + message : number;
}

// Makes the device's context current and gives the thread its own one back.
class CurrentContext {
 public:
  explicit CurrentContext(aclrtContext context) {
    if (aclrtGetCurrentContext(&before_) != ACL_SUCCESS) before_ = nullptr;
    error_ = aclrtSetCurrentContext(context);
  }
  ~CurrentContext() {
    if (before_) (void)aclrtSetCurrentContext(before_);
  }
  aclError error() const { return error_; }

 private:
  aclrtContext before_ = nullptr;
  aclError error_ = ACL_SUCCESS;
};

// One Ascend NPU through ACL. Streams and events belong to the device's default context, which an
// engine in the same process uses too; every thread makes it current before it works with them.
class AscendDevice final : public Device {
 public:
  AscendDevice(int id, aclrtContext context)
      : id_(id), context_(context), generations_(AclGenerations::find()) {
    batch_works_ = generations_.batch || generations_.batch_v2;
  }

  const char* platform() const override { return "ascend"; }
  int id() const override { return id_; }
  bool asynchronous() const override { return true; }
  Status bind_thread() override { return said("set context", aclrtSetCurrentContext(context_)); }

  Result<StreamHandle> make_stream(Direction) override {
    const CurrentContext current(context_);
    UCM_TRY(said("set context", current.error()));
    aclrtStream stream = nullptr;
    UCM_TRY(said("make stream", aclrtCreateStreamWithConfig(&stream, 0, ACL_STREAM_FAST_LAUNCH)));
    return StreamHandle{stream};
  }
  void destroy_stream(StreamHandle stream) override {
    const CurrentContext current(context_);
    one_by_one(stream, false);
    (void)aclrtSynchronizeStream(stream);
    (void)aclrtDestroyStream(stream);
  }
  Status wait_event(StreamHandle stream, uintptr_t event) override {
    if (event == 0) return {};
    return said("wait for an engine's event",
                aclrtStreamWaitEvent(stream, reinterpret_cast<aclrtEvent>(event)));
  }
  Status copy(StreamHandle stream, Direction direction, std::span<const CopyPiece> pieces) override;
  Status synchronize(StreamHandle stream) override {
    return said("synchronize", aclrtSynchronizeStream(stream));
  }
  std::vector<std::string> copy_methods() const override { return {kChosen, kEach}; }
  Status use_method(StreamHandle stream, const std::string& method) override {
    if (method != kChosen && method != kEach) {
      return make_status(Code::invalid_argument,
                         "platform ascend: device %d has no way of copying '%s'", id_,
                         method.c_str());
    }
    one_by_one(stream, method == kEach);
    return {};
  }

  Result<EventHandle> make_event() override {
    const CurrentContext current(context_);
    UCM_TRY(said("set context", current.error()));
    aclrtEvent event = nullptr;
    UCM_TRY(said("make event", aclrtCreateEventExWithFlag(&event, ACL_EVENT_SYNC)));
    return EventHandle{event};
  }
  void destroy_event(EventHandle event) override { (void)aclrtDestroyEvent(event); }
  Status record(EventHandle event, StreamHandle stream) override {
    return said("record event", aclrtRecordEvent(event, stream));
  }
  Status wait_host(EventHandle event) override {
    return said("wait for copies", aclrtSynchronizeEvent(event));
  }
  Status wait_engine(uintptr_t engine_stream, EventHandle event) override {
    const CurrentContext current(context_);  // whose default stream 0 is
    UCM_TRY(said("set context", current.error()));
    return said("let an engine's stream wait",
                aclrtStreamWaitEvent(reinterpret_cast<aclrtStream>(engine_stream), event));
  }

  Status register_host(void* address, size_t bytes) override;
  Status unregister_host(void* address) override;
  Result<void*> alloc_memory(size_t bytes) override {
    const CurrentContext current(context_);
    UCM_TRY(said("set context", current.error()));
    void* memory = nullptr;
    UCM_TRY(said("allocate device memory", aclrtMalloc(&memory, bytes, ACL_MEM_MALLOC_HUGE_FIRST)));
    return memory;
  }
  void free_memory(void* memory) override {
    const CurrentContext current(context_);
    (void)aclrtFree(memory);
  }
  // ACL tells no bus address.
  int numa_node() const override { return -1; }

 private:
  Status said(const char* action, aclError error) const {
    if (error == ACL_SUCCESS) return {};
    return make_status(Code::device_error, "platform ascend: device %d: %s: %s", id_, action,
                       text(error).c_str());
  }
  aclError copy_batch(aclrtStream stream, bool load, std::span<const CopyPiece> pieces) const;
  void one_by_one(aclrtStream stream, bool wanted) {
    const std::lock_guard lock(mutex_);
    if (wanted) {
      one_by_one_.insert(stream);
    } else {
      one_by_one_.erase(stream);
    }
  }
  bool batches(aclrtStream stream) {
    const std::lock_guard lock(mutex_);
    return batch_works_ && !one_by_one_.contains(stream);
  }

  static constexpr const char* kChosen = "chosen";  // a batch while the device takes batches
  static constexpr const char* kEach = "each";
  const int id_;
  const aclrtContext context_;
  const AclGenerations generations_;
  std::atomic<bool> batch_works_{false};
  std::mutex mutex_;
  std::set<aclrtStream> one_by_one_;
};

Status AscendDevice::copy(StreamHandle stream, Direction direction,
                          std::span<const CopyPiece> pieces) {
  const bool load = direction == Direction::load;
  if (pieces.size() > 1 && batches(stream)) {
    const aclError error = copy_batch(stream, load, pieces);
    if (error == ACL_SUCCESS) return {};
    // The call is experimental and refused by some devices. Copying a piece twice is harmless.
    log(LogLevel::info,
        "platform ascend: device %d: batch copies are refused (%s), copies go out "
        "one by one from now on",
        id_, text(error).c_str());
    batch_works_ = false;
  }
  const aclrtMemcpyKind kind = load ? ACL_MEMCPY_HOST_TO_DEVICE : ACL_MEMCPY_DEVICE_TO_HOST;
  for (const CopyPiece& piece : pieces) {
    if (piece.bytes == 0) continue;
    UCM_TRY(said("copy",
                 aclrtMemcpyAsync(piece.dst, piece.bytes, piece.src, piece.bytes, kind, stream)));
  }
  return {};
}

aclError AscendDevice::copy_batch(aclrtStream stream, bool load,
                                  std::span<const CopyPiece> pieces) const {
  std::vector<void*> dsts;
  std::vector<void*> srcs;
  std::vector<size_t> sizes;
  for (const CopyPiece& piece : pieces) {
    if (piece.bytes == 0) continue;
    dsts.push_back(piece.dst);
    srcs.push_back(const_cast<void*>(piece.src));
    sizes.push_back(piece.bytes);
  }
  if (sizes.empty()) return ACL_SUCCESS;
  const aclrtMemLocation host = {0, ACL_MEM_LOCATION_TYPE_HOST};
  const aclrtMemLocation device = {static_cast<uint32_t>(id_), ACL_MEM_LOCATION_TYPE_DEVICE};
  aclrtMemcpyBatchAttr attributes = {};
  attributes.dstLoc = load ? device : host;
  attributes.srcLoc = load ? host : device;
  size_t first_copy = 0;
  std::vector<size_t> room = sizes;
  if (generations_.batch_v2) {
    return generations_.batch_v2(dsts.data(), room.data(), srcs.data(), sizes.data(), sizes.size(),
                                 &attributes, &first_copy, 1, stream);
  }
  size_t failed = 0;
  return generations_.batch(dsts.data(), room.data(), srcs.data(), sizes.data(), sizes.size(),
                            &attributes, &first_copy, 1, &failed, stream);
}

Status AscendDevice::register_host(void* address, size_t bytes) {
  const CurrentContext current(context_);
  UCM_TRY(said("set context", current.error()));
  aclError error = ACL_SUCCESS;
  if (generations_.host_unregister && generations_.host_register_v2) {
    error = generations_.host_register_v2(address, bytes, ACL_HOST_REG_PINNED);
    if (error == ACL_SUCCESS) return {};
  }
  if (generations_.host_unregister && generations_.host_register) {
    void* seen_by_device = nullptr;  // not for copies
    error = generations_.host_register(address, bytes, ACL_HOST_REGISTER_MAPPED, &seen_by_device);
    if (error == ACL_SUCCESS) return {};
  }
  return make_status(
      Code::unsupported,
      "platform ascend: device %d: host memory stays unpinned and copies slow: %s", id_,
      error == ACL_SUCCESS ? "this CANN can not register memory" : text(error).c_str());
}

Status AscendDevice::unregister_host(void* address) {
  const CurrentContext current(context_);
  if (!generations_.host_unregister) {
    return make_status(Code::invalid_argument, "platform ascend: memory at %p was not registered",
                       address);
  }
  const aclError error = generations_.host_unregister(address);
  if (error == ACL_SUCCESS) return {};
  return make_status(Code::invalid_argument, "platform ascend: unregister memory at %p: %s",
                     address, text(error).c_str());
}

// The process may have been initialized by an engine; it is never finalized here for that reason.
Status initialize() {
  static const aclError error = aclInit(nullptr);
  if (error == ACL_SUCCESS || error == ACL_ERROR_REPEAT_INITIALIZE) return {};
  return make_status(Code::unavailable, "platform ascend: ACL can not be initialized: %s",
                     text(error).c_str());
}

Result<int> count() {
  UCM_TRY(initialize());
  uint32_t devices = 0;
  if (const aclError error = aclrtGetDeviceCount(&devices); error != ACL_SUCCESS) {
    return make_status(Code::unavailable, "platform ascend: the driver finds no device: %s",
                       text(error).c_str());
  }
  if (devices == 0) {
    return make_status(Code::unavailable, "platform ascend: the driver finds no device");
  }
  return static_cast<int>(devices);
}

Result<std::unique_ptr<Device>> make(int id) {
  UCM_TRY(initialize());
  aclrtContext before = nullptr;
  if (aclrtGetCurrentContext(&before) != ACL_SUCCESS) before = nullptr;
  aclrtContext context = nullptr;
  aclError error = aclrtSetDevice(id);
  if (error == ACL_SUCCESS) error = aclrtGetCurrentContext(&context);
  if (before) (void)aclrtSetCurrentContext(before);
  if (error != ACL_SUCCESS) {
    return make_status(Code::unavailable, "platform ascend: device %d: %s", id,
                       text(error).c_str());
  }
  return std::unique_ptr<Device>(std::make_unique<AscendDevice>(id, context));
}

}  // namespace
}  // namespace ucm

extern "C" UCM_API const ucm::PlatformEntry* ucm_platform_entry() {
  static const ucm::PlatformEntry entry = {ucm::kPlatformAbi, "ascend", ucm::count, ucm::make};
  return &entry;
}
