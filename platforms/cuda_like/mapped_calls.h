// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#ifndef UCM_RT
#error "define UCM_RT(name) as the vendor's prefix and name, and include the vendor's header first"
#endif

// What runtimes that follow CUDA's have in common, in the words of README.md: one body, and the
// vendor's prefix before every name. A platform adds what is its own.
namespace ucm::cuda_like {

// For runtimes without a batch copy.
struct NoBatch {
  explicit operator bool() const { return false; }
  template <class Stream>
  int operator()(void**, void**, size_t*, size_t, bool, Stream) const {
    return -1;
  }
};

struct MappedCalls {
  using Stream = UCM_RT(Stream_t);
  using Event = UCM_RT(Event_t);

  static const char* text(int error) {
    return UCM_RT(GetErrorString)(static_cast<UCM_RT(Error_t)>(error));
  }
  static int device_count(int* count) { return UCM_RT(GetDeviceCount)(count); }
  static int get_device(int* id) { return UCM_RT(GetDevice)(id); }
  static int set_device(int id) { return UCM_RT(SetDevice)(id); }
  static int bus_id(char* text, int bytes, int id) {
    return UCM_RT(DeviceGetPCIBusId)(text, bytes, id);
  }

  static int make_stream(Stream* stream, bool urgent) {
    int least = 0;
    int greatest = 0;
    (void)UCM_RT(DeviceGetStreamPriorityRange)(&least, &greatest);
    return UCM_RT(StreamCreateWithPriority)(stream, UCM_RT(StreamNonBlocking),
                                            urgent ? greatest : least);
  }
  static int destroy_stream(Stream stream) { return UCM_RT(StreamDestroy)(stream); }
  // Sleeps in an event: how the runtime waits for a stream is a setting of the engine's context.
  static int synchronize(Stream stream) {
    Event event = nullptr;
    if (int error = make_event(&event)) return error;
    int error = record(event, stream);
    if (error == 0) error = event_wait(event);
    (void)destroy_event(event);
    return error;
  }
  static int stream_wait(Stream stream, Event event) {
    return UCM_RT(StreamWaitEvent)(stream, event, 0);
  }
  static int make_event(Event* event) {
    return UCM_RT(EventCreateWithFlags)(event,
                                        UCM_RT(EventBlockingSync) | UCM_RT(EventDisableTiming));
  }
  static int destroy_event(Event event) { return UCM_RT(EventDestroy)(event); }
  static int record(Event event, Stream stream) { return UCM_RT(EventRecord)(event, stream); }
  static int event_wait(Event event) { return UCM_RT(EventSynchronize)(event); }

  static int copy_async(void* dst, const void* src, size_t bytes, bool load, Stream stream) {
    return UCM_RT(MemcpyAsync)(dst, src, bytes, kind(load), stream);
  }
  static int copy_2d_async(void* dst, size_t dst_pitch, const void* src, size_t src_pitch,
                           size_t width, size_t rows, bool load, Stream stream) {
    return UCM_RT(Memcpy2DAsync)(dst, dst_pitch, src, src_pitch, width, rows, kind(load), stream);
  }
  static int unregister_host(void* address) { return UCM_RT(HostUnregister)(address); }
  static int device_address(void** device, void* host) {
    return UCM_RT(HostGetDevicePointer)(device, host, 0);
  }
  static int alloc(void** memory, size_t bytes) { return UCM_RT(Malloc)(memory, bytes); }
  static int free(void* memory) { return UCM_RT(Free)(memory); }

 private:
  static UCM_RT(MemcpyKind) kind(bool load) {
    return load ? UCM_RT(MemcpyHostToDevice) : UCM_RT(MemcpyDeviceToHost);
  }
};

}  // namespace ucm::cuda_like
