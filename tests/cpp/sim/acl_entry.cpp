// SPDX-License-Identifier: Apache-2.0
// The ACL entry points that platforms/ascend calls, over the model. The header is the vendor's
// where it is found, so a prototype that drifts does not compile.
#include <acl/acl_rt.h>

#include "acl_generations.h"
#include "sim_model.h"

using ucm::sim::Model;
using ucm::sim::Way;

namespace {

// Contexts are numbers: 1 + device. A thread has none until it asks for one.
thread_local uintptr_t t_context = 0;
constexpr int kContextMissing = 107002;
constexpr int kParameter = 107000;

ucm::sim::Stream* own(aclrtStream stream) { return static_cast<ucm::sim::Stream*>(stream); }
ucm::sim::Event* known(aclrtEvent event) { return static_cast<ucm::sim::Event*>(event); }
aclError said(int answer) { return answer == ucm::sim::kInvalid ? kParameter : answer; }

int enter(const char* call, bool needs_context = true) {
  if (needs_context && t_context == 0) {
    (void)Model::the().misuse(std::string(call) + " on a thread without a context");
    return kContextMissing;
  }
  return Model::the().enter(call);
}

#define UCM_ENTER(...) \
  if (int refused = enter(__func__ __VA_OPT__(, ) __VA_ARGS__)) return refused

Way way_of(aclrtMemcpyKind kind) {
  if (kind == ACL_MEMCPY_HOST_TO_DEVICE) return Way::load;
  return kind == ACL_MEMCPY_DEVICE_TO_HOST ? Way::dump : Way::inside;
}

aclError batch(void** dsts, const size_t* rooms, void** srcs, const size_t* sizes, size_t count,
               const aclrtMemcpyBatchAttr* attributes, const size_t* places, size_t kinds,
               aclrtStream stream) {
  Model& model = Model::the();
  if (kinds != 1 || places[0] != 0) return said(model.misuse("attributes are not for copy 0"));
  const bool load = attributes->dstLoc.type == ACL_MEM_LOCATION_TYPE_DEVICE;
  for (size_t i = 0; i < count; ++i) {
    if (rooms[i] < sizes[i]) return said(model.misuse("a copy is larger than its destination"));
    const Way way = load ? Way::load : Way::dump;
    if (int answer = model.copy(dsts[i], srcs[i], sizes[i], way, own(stream))) return said(answer);
  }
  return ACL_SUCCESS;
}

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

aclError aclInit(const char*) {
  UCM_ENTER(false);
  return ACL_SUCCESS;
}
const char* aclGetRecentErrMsg() { return ""; }
aclError aclrtGetDeviceCount(uint32_t* count) {
  UCM_ENTER(false);
  *count = ucm::sim::kDevices;
  return ACL_SUCCESS;
}
aclError aclrtSetDevice(int32_t id) {
  UCM_ENTER(false);
  if (id < 0 || id >= ucm::sim::kDevices) return kParameter;
  t_context = 1 + static_cast<uintptr_t>(id);
  return ACL_SUCCESS;
}
aclError aclrtSetCurrentContext(aclrtContext context) {
  UCM_ENTER(false);
  t_context = reinterpret_cast<uintptr_t>(context);
  return ACL_SUCCESS;
}
aclError aclrtGetCurrentContext(aclrtContext* context) {
  if (t_context == 0) return kContextMissing;
  *context = reinterpret_cast<aclrtContext>(t_context);
  return ACL_SUCCESS;
}
aclError aclrtCreateStreamWithConfig(aclrtStream* stream, uint32_t, uint32_t) {
  UCM_ENTER();
  ucm::sim::Stream* made = nullptr;
  const int answer = Model::the().make_stream(&made, static_cast<int>(t_context) - 1);
  *stream = made;
  return said(answer);
}
aclError aclrtDestroyStream(aclrtStream stream) {
  UCM_ENTER();
  return said(Model::the().destroy_stream(own(stream)));
}
aclError aclrtSynchronizeStream(aclrtStream stream) {
  UCM_ENTER();
  return said(Model::the().synchronize(own(stream)));
}
aclError aclrtStreamWaitEvent(aclrtStream stream, aclrtEvent event) {
  UCM_ENTER();
  return said(Model::the().stream_wait(own(stream), known(event)));
}
aclError aclrtCreateEventExWithFlag(aclrtEvent* event, uint32_t) {
  UCM_ENTER();
  ucm::sim::Event* made = nullptr;
  const int answer = Model::the().make_event(&made);
  *event = made;
  return said(answer);
}
aclError aclrtDestroyEvent(aclrtEvent event) {
  return said(Model::the().destroy_event(known(event)));
}
aclError aclrtRecordEvent(aclrtEvent event, aclrtStream stream) {
  UCM_ENTER();
  return said(Model::the().record(known(event), own(stream)));
}
aclError aclrtSynchronizeEvent(aclrtEvent event) {
  UCM_ENTER();
  return said(Model::the().event_wait(known(event)));
}
aclError aclrtMalloc(void** memory, size_t bytes, aclrtMemMallocPolicy) {
  UCM_ENTER();
  return Model::the().alloc(memory, bytes);
}
aclError aclrtFree(void* memory) {
  UCM_ENTER();
  return said(Model::the().free(memory));
}
aclError aclrtMemcpyAsync(void* dst, size_t room, const void* src, size_t bytes,
                          aclrtMemcpyKind kind, aclrtStream stream) {
  UCM_ENTER();
  if (room < bytes) return said(Model::the().misuse("a copy is larger than its destination"));
  return said(Model::the().copy(dst, src, bytes, way_of(kind), own(stream)));
}
UCM_SIM_API aclError aclrtHostRegisterV2(void* memory, uint64_t bytes, uint32_t) {
  UCM_ENTER();
  return said(Model::the().register_host(memory, bytes));
}
UCM_SIM_API aclError aclrtHostRegister(void* memory, uint64_t bytes, aclrtHostRegisterType,
                                       void** seen) {
  UCM_ENTER();
  *seen = nullptr;  // copies must not use it
  return said(Model::the().register_host(memory, bytes));
}
UCM_SIM_API aclError aclrtHostUnregister(void* memory) {
  UCM_ENTER();
  if (!Model::the().is_pinned(memory)) return kParameter;
  return said(Model::the().unregister_host(memory));
}
UCM_SIM_API aclError aclrtMemcpyBatchAsync(void** dsts, size_t* rooms, void** srcs, size_t* sizes,
                                           size_t count, aclrtMemcpyBatchAttr* attributes,
                                           size_t* places, size_t kinds, size_t* failed,
                                           aclrtStream stream) {
  UCM_ENTER();
  if (!failed) return said(Model::the().misuse("no fail index was given"));
  return batch(dsts, rooms, srcs, sizes, count, attributes, places, kinds, stream);
}
UCM_SIM_API aclError aclrtMemcpyBatchAsyncV2(void** dsts, size_t* rooms, void** srcs, size_t* sizes,
                                             size_t count, aclrtMemcpyBatchAttr* attributes,
                                             size_t* places, size_t kinds, aclrtStream stream) {
  UCM_ENTER();
  return batch(dsts, rooms, srcs, sizes, count, attributes, places, kinds, stream);
}

#pragma GCC visibility pop
}

// The lookups of the platform assume what the vendor's header (or its stand-in) declares.
static_assert(std::is_same_v<decltype(&aclrtHostRegister), ucm::AclHostRegister*>);
static_assert(std::is_same_v<decltype(&aclrtHostRegisterV2), ucm::AclHostRegisterV2*>);
static_assert(std::is_same_v<decltype(&aclrtHostUnregister), ucm::AclHostUnregister*>);
static_assert(std::is_same_v<decltype(&aclrtMemcpyBatchAsync), ucm::AclMemcpyBatch*>);
static_assert(std::is_same_v<decltype(&aclrtMemcpyBatchAsyncV2), ucm::AclMemcpyBatchV2*>);
