// SPDX-License-Identifier: Apache-2.0
#include "memory/slot_memory.h"

#include <algorithm>
#include <mutex>

#include "base/lasting_memory.h"
#include "ucm/layout.h"

namespace ucm {
namespace memory {
namespace {

struct ProcessTotals {
  std::mutex mutex;
  PoolStats stats;
  uint64_t pinned = 0;
  uint64_t shared = 0;
  uint64_t page_bytes = 0;
};

ProcessTotals& totals() {
  static ProcessTotals* const instance = new ProcessTotals;
  return *instance;
}

const char* kind_of(bool pinned, bool shared) {
  if (pinned) return "pinned";
  return shared ? "shared" : "plain";
}

Status check(const PoolOptions& options) {
  if (options.slot_bytes != 0 && options.slots != 0) return {};
  return make_status(Code::invalid_argument, "pool: %zu slots of %zu bytes, both must be > 0",
                     options.slots, options.slot_bytes);
}

RegionOptions region_options(const PoolOptions& options) {
  return {align_up(options.slot_bytes) * options.slots, options.huge_pages, options.prefault,
          options.device};
}

}  // namespace

Result<std::unique_ptr<SlotMemory>> SlotMemory::make(const PoolOptions& options) {
  UCM_TRY(check(options));
  UCM_TRY_ASSIGN(auto region, Region::make(region_options(options)));
  return std::unique_ptr<SlotMemory>(new SlotMemory(std::move(region), options));
}

Result<std::unique_ptr<SlotMemory>> SlotMemory::over(std::byte* start, const PoolOptions& options) {
  UCM_TRY(check(options));
  UCM_TRY_ASSIGN(auto region, Region::over(start, region_options(options)));
  return std::unique_ptr<SlotMemory>(new SlotMemory(std::move(region), options));
}

SlotMemory::SlotMemory(std::unique_ptr<Region> region, const PoolOptions& options)
    : region_(std::move(region)),
      slot_bytes_(align_up(options.slot_bytes)),
      slots_(options.slots),
      announced_(base::announce_memory(region_->data(), slot_bytes_ * slots_, slot_bytes_)) {
  ProcessTotals& t = totals();
  const std::lock_guard lock(t.mutex);
  t.stats.total_bytes += region_->bytes();
  t.pinned += region_->pinned() ? 1 : 0;
  t.shared += region_->shared() ? 1 : 0;
  t.page_bytes = std::max<uint64_t>(t.page_bytes, region_->page_bytes());
}

SlotMemory::~SlotMemory() {
  base::withdraw_memory(announced_);
  set_used(0);
  ProcessTotals& t = totals();
  const std::lock_guard lock(t.mutex);
  t.stats.total_bytes -= region_->bytes();
  t.pinned -= region_->pinned() ? 1 : 0;
  t.shared -= region_->shared() ? 1 : 0;
}

const char* SlotMemory::kind() const { return kind_of(region_->pinned(), region_->shared()); }

void SlotMemory::set_used(size_t slots) {
  if (slots == used_) return;
  ProcessTotals& t = totals();
  const std::lock_guard lock(t.mutex);
  t.stats.used_bytes += slots * slot_bytes_ - used_ * slot_bytes_;
  t.stats.peak_bytes = std::max(t.stats.peak_bytes, t.stats.used_bytes);
  used_ = slots;
}

}  // namespace memory

PoolStats process_pool_stats() {
  memory::ProcessTotals& t = memory::totals();
  const std::lock_guard lock(t.mutex);
  PoolStats stats = t.stats;
  stats.page_bytes = t.page_bytes;
  stats.kind = memory::kind_of(t.pinned > 0, t.shared > 0);
  return stats;
}

}  // namespace ucm
