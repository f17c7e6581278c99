// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
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

// Opaque to ucm: made and destroyed by the Device that owns them.
using StreamHandle = void*;
using EventHandle = void*;

// One accelerator, or the host. Calls are thread-safe unless they name a stream or an event of
// ours; those are used by one thread at a time. A thread calls `bind_thread` once before it uses
// them. Streams and events of an engine come as integers and stay the engine's.
class Device {
 public:
  virtual ~Device() = default;

  virtual const char* platform() const = 0;
  virtual int id() const = 0;
  // False: `copy` moves the bytes itself, on the calling thread, and null is a good stream.
  virtual bool asynchronous() const = 0;
  virtual Status bind_thread() = 0;

  // A stream carries copies of one direction only; streams for loads may get a higher priority.
  virtual Result<StreamHandle> make_stream(Direction direction) = 0;
  // Waits for what the stream still carries.
  virtual void destroy_stream(StreamHandle stream) = 0;
  // Later work on `stream` waits for `event` of an engine; 0 is a no-op.
  virtual Status wait_event(StreamHandle stream, uintptr_t event) = 0;
  // Enqueues the copies; they may run in any order. `pieces` is free again on return. After a
  // failure part of them may be under way until `synchronize` returns.
  virtual Status copy(StreamHandle stream, Direction direction,
                      std::span<const CopyPiece> pieces) = 0;
  // Blocks (without spinning) until all work of the stream is complete.
  virtual Status synchronize(StreamHandle stream) = 0;
  // For figures: the ways this device has of carrying out many copies, the first the usual one that
  // chooses between the others; and a stream that goes one of these ways wherever that is possible.
  virtual std::vector<std::string> copy_methods() const = 0;
  virtual Status use_method(StreamHandle stream, const std::string& method) = 0;

  virtual Result<EventHandle> make_event() = 0;
  virtual void destroy_event(EventHandle event) = 0;
  // The event stands for everything the stream carries now.
  virtual Status record(EventHandle event, StreamHandle stream) = 0;
  // Blocks (without spinning) until what was recorded is complete.
  virtual Status wait_host(EventHandle event) = 0;
  // Later work on an engine's stream waits for what was recorded; only enqueues. Any thread, also
  // while another one records the event again.
  virtual Status wait_engine(uintptr_t engine_stream, EventHandle event) = 0;

  // Makes host memory directly reachable for fast copies (pinning). A no-op on the cpu platform;
  // `unsupported` where the driver can not pin memory it did not allocate: copies stay correct.
  virtual Status register_host(void* address, size_t bytes) = 0;
  // With the address of the registration, when no copy uses the memory any more.
  virtual Status unregister_host(void* address) = 0;
  // For figures: memory of the device.
  virtual Result<void*> alloc_memory(size_t bytes) = 0;
  virtual void free_memory(void* memory) = 0;
  // NUMA node next to the device, or -1 when unknown or meaningless.
  virtual int numa_node() const = 0;
};

// Raised whenever Device or PlatformEntry changes; a module with another number is refused.
inline constexpr uint32_t kPlatformAbi = 3;

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
  bool loaded = false;  // the module is usable and counted its devices
  int devices = 0;
  std::string reason;  // one sentence when not loaded
};

// Opens device `id` of a platform. `unavailable` says in one sentence why it can not be used.
UCM_API Result<std::shared_ptr<Device>> open_device(const std::string& platform, int id);
// Every platform module found beside libucm, whether it loads or not.
UCM_API std::vector<PlatformReport> platforms();

// --- figures: how fast a device copies scattered pieces, beside one large copy of the same run ---

struct CopySurvey {
  size_t bytes = size_t{256} << 20;  // half of them go each way
  std::vector<size_t> piece_bytes;
  int rounds = 5;  // that count; one more warms up
  // Called before each row with its method and piece size; false ends the measurement.
  std::function<bool(const std::string& method, size_t piece_bytes)> on_row;
};

// GB (1e9 bytes) per second, medians of the rounds. `both`: the sum while both ways run at once.
struct CopyFigure {
  std::string method;  // of Device::copy_methods, or kOneLargeCopy
  size_t piece_bytes = 0;
  size_t pieces = 0;
  double load = 0;
  double dump = 0;
  double both = 0;
};

struct CopyFigures {
  bool pinned = false;  // whether the device reaches the host memory directly
  std::vector<CopyFigure> rows;
};

inline constexpr const char* kOneLargeCopy = "one large copy";

// The first row is one large copy per direction: the limit of the device. Then every method with
// every piece size, on pieces in an order that joins none of them (for `pitched`: at equal
// distances). After each row the bytes are compared; `corruption` when they differ.
UCM_API Result<CopyFigures> measure_copies(Device* device, const CopySurvey& survey);

}  // namespace ucm
