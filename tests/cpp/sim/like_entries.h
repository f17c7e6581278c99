// SPDX-License-Identifier: Apache-2.0
// Entry points that runtimes which follow CUDA's have in common, over the model: included once per
// vendor, with UCM_RT(name) set to the vendor's prefix and name. The vendor's header (or, without
// its SDK, a declaration of the subset) comes first, so a prototype that drifts does not compile.
#include <cstdio>

#include "sim_model.h"

using ucm::sim::Model;
using ucm::sim::Way;

namespace {

thread_local int t_device = 0;

ucm::sim::Stream* own(UCM_RT(Stream_t) stream) {
  return reinterpret_cast<ucm::sim::Stream*>(stream);
}
ucm::sim::Event* own(UCM_RT(Event_t) event) { return reinterpret_cast<ucm::sim::Event*>(event); }
UCM_RT(Error_t) said(int answer) { return static_cast<UCM_RT(Error_t)>(answer); }

#define UCM_ENTER() \
  if (int injected = Model::the().enter(__func__)) return said(injected)

Way way_of(UCM_RT(MemcpyKind) kind) {
  switch (kind) {
    case UCM_RT(MemcpyHostToDevice):
      return Way::load;
    case UCM_RT(MemcpyDeviceToHost):
      return Way::dump;
    case UCM_RT(MemcpyDeviceToDevice):
      return Way::inside;
    default:
      return Way::host;
  }
}

}  // namespace

extern "C" {
#pragma GCC visibility push(default)

UCM_RT(Error_t) UCM_RT(GetDeviceCount)(int* count) {
  UCM_ENTER();
  if (Model::the().driver_version == 0) return said(35);
  *count = ucm::sim::kDevices;
  return UCM_RT(Success);
}
UCM_RT(Error_t) UCM_RT(GetDevice)(int* id) {
  *id = t_device;
  return UCM_RT(Success);
}
UCM_RT(Error_t) UCM_RT(SetDevice)(int id) {
  UCM_ENTER();
  if (id < 0 || id >= ucm::sim::kDevices) return said(101);
  t_device = id;
  return UCM_RT(Success);
}
const char* UCM_RT(GetErrorString)(UCM_RT(Error_t) error) {
  return error == said(ucm::sim::kInjected) ? "injected failure" : "refused by the simulation";
}
UCM_RT(Error_t) UCM_RT(DeviceGetPCIBusId)(char* text, int bytes, int id) {
  std::snprintf(text, static_cast<size_t>(bytes), "FFFF:%02X:00.0", id);
  return UCM_RT(Success);
}
UCM_RT(Error_t) UCM_RT(DeviceGetStreamPriorityRange)(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return UCM_RT(Success);
}
UCM_RT(Error_t)
UCM_RT(StreamCreateWithPriority)(UCM_RT(Stream_t) * stream, unsigned flags, int priority) {
  UCM_ENTER();
  if (flags != UCM_RT(StreamNonBlocking) || priority > 0 || priority < -5) {
    return said(Model::the().misuse("a stream that waits for the default stream, or priority"));
  }
  return said(Model::the().make_stream(reinterpret_cast<ucm::sim::Stream**>(stream), t_device));
}
UCM_RT(Error_t) UCM_RT(StreamDestroy)(UCM_RT(Stream_t) stream) {
  UCM_ENTER();
  return said(Model::the().destroy_stream(own(stream)));
}
UCM_RT(Error_t) UCM_RT(StreamWaitEvent)(UCM_RT(Stream_t) stream, UCM_RT(Event_t) event, unsigned) {
  UCM_ENTER();
  return said(Model::the().stream_wait(own(stream), own(event)));
}
UCM_RT(Error_t) UCM_RT(EventCreateWithFlags)(UCM_RT(Event_t) * event, unsigned flags) {
  UCM_ENTER();
  if ((flags & UCM_RT(EventBlockingSync)) == 0) {
    return said(Model::the().misuse("waiting for this event would spin"));
  }
  return said(Model::the().make_event(reinterpret_cast<ucm::sim::Event**>(event)));
}
UCM_RT(Error_t) UCM_RT(EventDestroy)(UCM_RT(Event_t) event) {
  return said(Model::the().destroy_event(own(event)));
}
UCM_RT(Error_t) UCM_RT(EventRecord)(UCM_RT(Event_t) event, UCM_RT(Stream_t) stream) {
  UCM_ENTER();
  return said(Model::the().record(own(event), own(stream)));
}
UCM_RT(Error_t) UCM_RT(EventSynchronize)(UCM_RT(Event_t) event) {
  UCM_ENTER();
  return said(Model::the().event_wait(own(event)));
}
UCM_RT(Error_t)
UCM_RT(MemcpyAsync)(void* dst, const void* src, size_t bytes, UCM_RT(MemcpyKind) kind,
                    UCM_RT(Stream_t) stream) {
  UCM_ENTER();
  return said(Model::the().copy(dst, src, bytes, way_of(kind), own(stream)));
}
UCM_RT(Error_t)
UCM_RT(Memcpy2DAsync)(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t width,
                      size_t rows, UCM_RT(MemcpyKind) kind, UCM_RT(Stream_t) stream) {
  UCM_ENTER();
  return said(Model::the().copy_rows(dst, dst_pitch, src, src_pitch, width, rows, way_of(kind),
                                     own(stream)));
}
UCM_RT(Error_t) UCM_RT(HostRegister)(void* memory, size_t bytes, unsigned flags) {
  UCM_ENTER();
  if ((flags & UCM_RT(HostRegisterPortable)) == 0) {
    return said(Model::the().misuse("host memory is not registered for every device"));
  }
  return said(Model::the().register_host(memory, bytes));
}
UCM_RT(Error_t) UCM_RT(HostUnregister)(void* memory) {
  UCM_ENTER();
  return said(Model::the().unregister_host(memory));
}
UCM_RT(Error_t) UCM_RT(HostGetDevicePointer)(void** device, void* host, unsigned) {
  UCM_ENTER();
  if (!Model::the().is_pinned(host)) return said(ucm::sim::kInvalid);
  *device = host;
  return UCM_RT(Success);
}
UCM_RT(Error_t) UCM_RT(Malloc)(void** memory, size_t bytes) {
  UCM_ENTER();
  return said(Model::the().alloc(memory, bytes));
}
UCM_RT(Error_t) UCM_RT(Free)(void* memory) { return said(Model::the().free(memory)); }

#pragma GCC visibility pop
}
