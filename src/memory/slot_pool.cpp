// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <mutex>
#include <vector>

#include "base/lasting_memory.h"
#include "memory/region.h"
#include "ucm/layout.h"
#include "ucm/memory.h"

namespace ucm {
namespace {

struct ProcessTotals {
  std::mutex mutex;
  PoolStats stats;
  uint64_t pinned_pools = 0;
  uint64_t page_bytes = 0;
};

ProcessTotals& totals() {
  static ProcessTotals* const instance = new ProcessTotals;
  return *instance;
}

// Free slots are a stack: the slot given back last is warm in the processor's caches and goes out
// first, and pages of slots that were never needed stay untouched.
class SlotPool : public Pool {
 public:
  SlotPool(std::unique_ptr<memory::Region> region, size_t slot_bytes, size_t slots)
      : region_(std::move(region)),
        slot_bytes_(slot_bytes),
        slots_(slots),
        announced_(base::announce_memory(region_->data(), slot_bytes * slots, slot_bytes)) {
    free_.reserve(slots);
    for (size_t i = slots; i > 0; --i) free_.push_back(static_cast<uint32_t>(i - 1));
    ProcessTotals& t = totals();
    const std::lock_guard lock(t.mutex);
    t.stats.total_bytes += region_->bytes();
    t.pinned_pools += region_->pinned() ? 1 : 0;
    t.page_bytes = std::max<uint64_t>(t.page_bytes, region_->page_bytes());
  }

  ~SlotPool() override {
    base::withdraw_memory(announced_);
    ProcessTotals& t = totals();
    const std::lock_guard lock(t.mutex);
    t.stats.total_bytes -= region_->bytes();
    t.pinned_pools -= region_->pinned() ? 1 : 0;
  }

  Lease try_lease() override {
    uint32_t slot;
    {
      const std::lock_guard lock(mutex_);
      if (free_.empty()) return {};
      slot = free_.back();
      free_.pop_back();
      peak_ = std::max(peak_, slots_ - free_.size());
    }
    count_used(static_cast<int64_t>(slot_bytes_));
    return make_lease(slot);
  }

  size_t slot_bytes() const override { return slot_bytes_; }
  size_t slots() const override { return slots_; }
  std::byte* slot_address(uint32_t slot) const override {
    return region_->data() + slot * slot_bytes_;
  }

  PoolStats stats() const override {
    const std::lock_guard lock(mutex_);
    return {region_->bytes(), (slots_ - free_.size()) * slot_bytes_, peak_ * slot_bytes_,
            region_->page_bytes(), region_->pinned() ? "pinned" : "plain"};
  }

 protected:
  void give_back(uint32_t slot) override {
    {
      const std::lock_guard lock(mutex_);
      free_.push_back(slot);
    }
    count_used(-static_cast<int64_t>(slot_bytes_));
  }

 private:
  static void count_used(int64_t bytes) {
    ProcessTotals& t = totals();
    const std::lock_guard lock(t.mutex);
    t.stats.used_bytes += static_cast<uint64_t>(bytes);
    t.stats.peak_bytes = std::max(t.stats.peak_bytes, t.stats.used_bytes);
  }

  const std::unique_ptr<memory::Region> region_;
  const size_t slot_bytes_;
  const size_t slots_;
  const uint64_t announced_;
  mutable std::mutex mutex_;
  std::vector<uint32_t> free_;
  size_t peak_ = 0;
};

}  // namespace

Lease::Lease(Lease&& other) noexcept
    : pool_(std::move(other.pool_)), data_(other.data_), slot_(other.slot_) {
  other.data_ = nullptr;
}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    reset();
    pool_ = std::move(other.pool_);
    data_ = std::exchange(other.data_, nullptr);
    slot_ = other.slot_;
  }
  return *this;
}

void Lease::reset() {
  if (!pool_) return;
  pool_->give_back(slot_);
  pool_.reset();
  data_ = nullptr;
}

Result<std::shared_ptr<Pool>> Pool::make(const PoolOptions& options) {
  if (options.slot_bytes == 0 || options.slots == 0) {
    return make_status(Code::invalid_argument, "pool: %zu slots of %zu bytes, both must be > 0",
                       options.slots, options.slot_bytes);
  }
  const size_t slot_bytes = align_up(options.slot_bytes);
  UCM_TRY_ASSIGN(auto region, memory::Region::make({slot_bytes * options.slots, options.huge_pages,
                                                    options.prefault, options.device}));
  return std::shared_ptr<Pool>(
      std::make_shared<SlotPool>(std::move(region), slot_bytes, options.slots));
}

PoolStats process_pool_stats() {
  ProcessTotals& t = totals();
  const std::lock_guard lock(t.mutex);
  PoolStats stats = t.stats;
  stats.page_bytes = t.page_bytes;
  stats.kind = t.pinned_pools > 0 ? "pinned" : "plain";
  return stats;
}

}  // namespace ucm
