// SPDX-License-Identifier: Apache-2.0
// Included once per vendor, with UCM_RT(name) and UCM_RT_HANDLE(name): the part of a runtime like
// CUDA's that ucm calls. Names, order of arguments and numbers are the vendors'; stands in where
// the SDK is not installed.
#include <cstddef>

typedef struct UCM_RT_HANDLE(stream_st) * UCM_RT(Stream_t);
typedef struct UCM_RT_HANDLE(event_st) * UCM_RT(Event_t);
enum UCM_RT(Error_t) : int { UCM_RT(Success) = 0 };
enum UCM_RT(MemcpyKind) : int {
  UCM_RT(MemcpyHostToHost) = 0,
  UCM_RT(MemcpyHostToDevice) = 1,
  UCM_RT(MemcpyDeviceToHost) = 2,
  UCM_RT(MemcpyDeviceToDevice) = 3
};
constexpr unsigned UCM_RT(StreamNonBlocking) = 1;
constexpr unsigned UCM_RT(EventBlockingSync) = 1;
constexpr unsigned UCM_RT(EventDisableTiming) = 2;
constexpr unsigned UCM_RT(HostRegisterPortable) = 1;
constexpr unsigned UCM_RT(HostRegisterMapped) = 2;

extern "C" {
UCM_RT(Error_t) UCM_RT(GetDeviceCount)(int*);
UCM_RT(Error_t) UCM_RT(GetDevice)(int*);
UCM_RT(Error_t) UCM_RT(SetDevice)(int);
const char* UCM_RT(GetErrorString)(UCM_RT(Error_t));
UCM_RT(Error_t) UCM_RT(DeviceGetPCIBusId)(char*, int, int);
UCM_RT(Error_t) UCM_RT(DeviceGetStreamPriorityRange)(int*, int*);
UCM_RT(Error_t) UCM_RT(StreamCreateWithPriority)(UCM_RT(Stream_t) *, unsigned, int);
UCM_RT(Error_t) UCM_RT(StreamDestroy)(UCM_RT(Stream_t));
UCM_RT(Error_t) UCM_RT(StreamWaitEvent)(UCM_RT(Stream_t), UCM_RT(Event_t), unsigned);
UCM_RT(Error_t) UCM_RT(EventCreateWithFlags)(UCM_RT(Event_t) *, unsigned);
UCM_RT(Error_t) UCM_RT(EventDestroy)(UCM_RT(Event_t));
UCM_RT(Error_t) UCM_RT(EventRecord)(UCM_RT(Event_t), UCM_RT(Stream_t));
UCM_RT(Error_t) UCM_RT(EventSynchronize)(UCM_RT(Event_t));
UCM_RT(Error_t)
UCM_RT(MemcpyAsync)(void*, const void*, size_t, UCM_RT(MemcpyKind), UCM_RT(Stream_t));
UCM_RT(Error_t)
UCM_RT(Memcpy2DAsync)(void*, size_t, const void*, size_t, size_t, size_t, UCM_RT(MemcpyKind),
                      UCM_RT(Stream_t));
UCM_RT(Error_t) UCM_RT(HostRegister)(void*, size_t, unsigned);
UCM_RT(Error_t) UCM_RT(HostUnregister)(void*);
UCM_RT(Error_t) UCM_RT(HostGetDevicePointer)(void**, void*, unsigned);
UCM_RT(Error_t) UCM_RT(Malloc)(void**, size_t);
UCM_RT(Error_t) UCM_RT(Free)(void*);
}
