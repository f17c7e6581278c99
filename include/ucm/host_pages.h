// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ucm/batch.h"
#include "ucm/device.h"
#include "ucm/key.h"
#include "ucm/status.h"

namespace ucm {

struct HostPagesOptions {
  std::string name;        // letters, digits, '-', '_' and '.'; processes meet by it
  uint32_t pages = 0;      // `attach` takes it from who created them
  size_t page_bytes = 0;   // 0: the index alone; `attach` only asks whether it is 0
  bool huge_pages = true;  // reserved huge pages -> transparent ones -> plain ones
  // Over all nodes; else near the device where there is one. `attach` does as who created them.
  bool numa_interleave = false;
  std::shared_ptr<Device> device;  // registers the memory of this process's mapping; may be null
};

struct HostPagesStats {
  uint32_t pages = 0;
  uint32_t empty = 0;
  uint32_t loading = 0;
  uint32_t ready = 0;
  uint32_t lost = 0;        // were being filled by a process that died
  uint32_t referenced = 0;  // can not be evicted now
  uint64_t asked = 0;       // keys that were queried or allocated, since creation
  uint64_t found = 0;       // of these, pages that were ready
  uint64_t filled = 0;
  uint64_t evicted = 0;
  uint64_t refused = 0;   // allocations that found every page in use
  uint64_t recycled = 0;  // given back without having been filled
  uint64_t offload_pages = 0;
  uint64_t offload_dropped = 0;  // pages whose group did not fit in the queue
  uint64_t offload_waiting = 0;  // cells of the queue in use
  uint64_t misused = 0;          // references given back that nobody held
  uint64_t engine_loads = 0;     // pages copied to the engine and from it, as it told
  uint64_t engine_dumps = 0;
  uint64_t repairs = 0;  // a process died inside the index and it was put in order again
};

// CPU pages of an engine that several processes share: an index by content (key, state, count of
// references, least recently used first) and the memory of the pages. Each call is atomic between
// threads and processes and never waits for anything but that; a process that dies at any point,
// also inside a call, leaves the index usable. The memory is gone with the last process.
class UCM_API HostPages {
 public:
  static constexpr int32_t kNone = -1;
  struct Allocation {
    int32_t page = kNone;
    bool ready = false;  // filled already; else the caller fills it or waits for who does
  };

  // unavailable when somebody has pages of that name open.
  static Result<std::unique_ptr<HostPages>> create(const HostPagesOptions& options);
  // not_found when nobody has.
  static Result<std::unique_ptr<HostPages>> attach(const HostPagesOptions& options);
  virtual ~HostPages() = default;

  // One reference per answered page. Stops at the first key for which there is no page.
  virtual std::vector<Allocation> allocate(std::span<const BlockKey> keys) = 0;
  // One reference per page: leading keys that are ready, until the first that is not.
  virtual std::vector<int32_t> query(std::span<const BlockKey> keys) = 0;
  // The page of a key, without a reference.
  virtual int32_t find(const BlockKey& key) = 0;
  // `kNone` is skipped wherever pages are named.
  virtual Status mark_ready(std::span<const int32_t> pages, bool release, bool offload) = 0;
  // A page that was never filled is empty again when its last reference goes.
  virtual Status release(std::span<const int32_t> pages) = 0;
  virtual Result<bool> all_ready(std::span<const int32_t> pages) const = 0;
  // Groups of pages for the next level, in the order of `mark_ready`; each page has a reference.
  virtual std::vector<std::vector<int32_t>> take_offloads() = 0;

  struct PageView {
    BlockKey key;
    uint32_t state = 0;  // 0 empty, 1 loading, 2 ready, 3 lost
    int32_t references = 0;
  };
  virtual Result<PageView> view(int32_t page) const = 0;
  // For the figures of all processes together.
  virtual void count_transfer(Direction direction, uint64_t pages) = 0;
  virtual HostPagesStats stats() = 0;

  virtual uint32_t pages() const = 0;
  virtual size_t page_bytes() const = 0;
  virtual std::byte* data() const = 0;           // null without memory
  virtual size_t memory_page_bytes() const = 0;  // page size of the memory actually reached
  virtual bool pinned() const = 0;
};

}  // namespace ucm
