// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ucm/batch.h"
#include "ucm/status.h"

// The platform seam: what a port to another accelerator implements, and nothing else.
// A platform is a module `libucm_<name>.so` that exports `ucm_platform_entry`; the registry loads
// it at run time, so that the package imports on machines without the vendor's driver.
namespace ucm {

// One contiguous copy. For Direction::load `dst` is device memory and `src` host memory, for
// Direction::dump the other way round. On the cpu platform both are host memory.
struct CopyPiece {
  void* dst = nullptr;
  const void* src = nullptr;
  size_t bytes = 0;
};

// Opaque to ucm: a vendor's stream. Made and destroyed by the Device that owns it.
using StreamHandle = void*;

// One accelerator, or the host. Calls are thread-safe unless they name a stream; a stream is used
// by one thread at a time. Every thread calls `bind_thread` once before anything else.
class Device {
 public:
  virtual ~Device() = default;

  virtual const char* platform() const = 0;
  virtual int id() const = 0;
  virtual Status bind_thread() = 0;

  virtual Result<StreamHandle> make_stream() = 0;
  virtual void destroy_stream(StreamHandle stream) = 0;
  // Later work on `stream` waits for `event` (an engine's event as an integer); 0 is a no-op.
  virtual Status wait_event(StreamHandle stream, uintptr_t event) = 0;
  // Enqueues the copies; they may run in any order. Descriptors are free again on return.
  virtual Status copy(StreamHandle stream, Direction direction,
                      std::span<const CopyPiece> pieces) = 0;
  // Blocks (without spinning) until all work of the stream is complete.
  virtual Status synchronize(StreamHandle stream) = 0;

  // Makes host memory directly reachable for fast copies (pinning). A no-op on the cpu platform.
  virtual Status register_host(void* address, size_t bytes) = 0;
  virtual Status unregister_host(void* address) = 0;
  // NUMA node next to the device, or -1 when unknown or meaningless.
  virtual int numa_node() const = 0;
};

// Raised whenever Device or PlatformEntry changes; a module with another number is refused.
inline constexpr uint32_t kPlatformAbi = 1;

// What a module exports as `extern "C" const ucm::PlatformEntry* ucm_platform_entry()`.
struct PlatformEntry {
  uint32_t abi = kPlatformAbi;
  const char* name = "";
  // How many devices there are, or why the platform can not be used here.
  Result<int> (*count)() = nullptr;
  Result<std::unique_ptr<Device>> (*make)(int id) = nullptr;
};

struct PlatformReport {
  std::string name;
  bool loaded = false;
  int devices = 0;
  std::string reason;  // one sentence when not loaded
};

// Opens device `id` of a platform. `unavailable` says in one sentence why it can not be used.
UCM_API Result<std::shared_ptr<Device>> open_device(const std::string& platform, int id);
// Every platform module found beside libucm, whether it loads or not.
UCM_API std::vector<PlatformReport> platforms();

}  // namespace ucm
