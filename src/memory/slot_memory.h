// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "memory/region.h"
#include "ucm/memory.h"

namespace ucm::memory {

// Host memory cut into equal, kAlign-aligned slots and counted in `process_pool_stats`. It does not
// know which slots are in use; whoever does tells it how many.
class SlotMemory {
 public:
  static Result<std::unique_ptr<SlotMemory>> make(const PoolOptions& options);
  // Over memory that somebody else maps and that outlives this object.
  static Result<std::unique_ptr<SlotMemory>> over(std::byte* start, const PoolOptions& options);
  ~SlotMemory();
  SlotMemory(const SlotMemory&) = delete;
  SlotMemory& operator=(const SlotMemory&) = delete;

  size_t slots() const { return slots_; }
  size_t slot_bytes() const { return slot_bytes_; }
  std::byte* address(uint32_t slot) const { return region_->data() + slot * slot_bytes_; }
  const Region& region() const { return *region_; }
  const char* kind() const;
  // Not thread-safe, unlike everything else here.
  void set_used(size_t slots);

 private:
  SlotMemory(std::unique_ptr<Region> region, const PoolOptions& options);

  const std::unique_ptr<Region> region_;
  const size_t slot_bytes_;
  const size_t slots_;
  const uint64_t announced_;
  size_t used_ = 0;
};

}  // namespace ucm::memory
