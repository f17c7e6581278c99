// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "io/paths.h"
#include "pages/writer_store.h"
#include "ucm/log.h"

namespace ucm::pages {
namespace {

constexpr std::chrono::seconds kGrowthPause{10};
constexpr unsigned kEvictionsPerTurn = 64;
constexpr uint64_t kFirstGrowthBytes = 64 << 20;

}  // namespace

bool WriterStore::can_grow() const {
  return slots_there_ < format_.capacity_slots &&
         std::chrono::steady_clock::now() >= growth_stopped_until_;
}

// The slots there will be without help from outside.
uint64_t WriterStore::usable_slots() const {
  const uint64_t slots = can_grow() ? format_.capacity_slots : slots_there_;
  return slots - std::min(slots, lost_slots_);
}

uint64_t WriterStore::used_slots() const {
  return slots_there_ - std::min<uint64_t>(slots_there_, free_.size() + lost_slots_);
}

bool WriterStore::take_slot(uint32_t* slot, Consequences* after) {
  if (free_.empty() && !growing_ && can_grow()) {
    schedule_upkeep();
    return false;
  }
  if (free_.empty() && (growing_ || !evict_one(after))) return false;
  *slot = free_.take();
  return true;
}

// Whether a dump that found no slot may find one later.
bool WriterStore::may_free_up() const {
  return growing_ || can_grow() || pinned_ > 0 || !writing_.empty();
}

bool WriterStore::evict_one(Consequences* after) {
  const auto victim =
      policy_->evict([this](uint32_t slot) { return !kept_.has(slot) && !pins_.contains(slot); });
  if (!victim) return false;
  index_->unpublish(*victim);
  free_.add(*victim);
  --blocks_;
  ++evicted_;
  ++after->evictions;
  --after->blocks;
  return true;
}

void WriterStore::drop_block(uint32_t slot, const char* cause, Consequences* after) {
  forget_block(slot, after);
  ++dropped_[cause];
  after->drops.push_back(cause);
}

void WriterStore::forget_block(uint32_t slot, Consequences* after) {
  policy_->erase(slot);
  index_->unpublish(slot);
  after->pins -= kept_.has(slot);
  kept_.remove(slot);
  --blocks_;
  --after->blocks;
  if (const auto pins = pins_.find(slot); pins != pins_.end()) {
    pins->second.doomed = true;
  } else {
    free_.add(slot);
  }
}

void WriterStore::release_pin(uint32_t slot) {
  --pinned_;
  note_end();
  const auto pins = pins_.find(slot);
  if (--pins->second.count > 0) return;
  if (pins->second.doomed) free_.add(slot);
  pins_.erase(pins);
}

bool WriterStore::wants_growth() const {
  return !growing_ && can_grow() && free_.size() < std::max<uint64_t>(1, growth_step() / 2);
}

bool WriterStore::wants_upkeep() const {
  if (wants_growth() || evicting_) return true;
  if (can_grow()) return false;
  return static_cast<double>(used_slots()) >
         std::ceil(options_.eviction_high * static_cast<double>(usable_slots()));
}

void WriterStore::schedule_upkeep() {
  if (upkeep_scheduled_ || closed_) return;
  upkeep_scheduled_ = true;
  submit_job(&WriterStore::upkeep);
}

void WriterStore::upkeep() {
  while (true) {
    Consequences after;
    bool grow = false;
    {
      const std::lock_guard lock(mutex_);
      if (closed_ || !wants_upkeep()) {
        upkeep_scheduled_ = false;
        return;
      }
      grow = wants_growth();
      growing_ = grow;
      const double low = options_.eviction_low * static_cast<double>(usable_slots());
      // Once begun, eviction goes on down to the low mark, over several turns.
      evicting_ = !grow && static_cast<double>(used_slots()) > low;
      for (unsigned i = 0; evicting_ && i < kEvictionsPerTurn && evict_one(&after); ++i) {
        evicting_ = static_cast<double>(used_slots()) > low;
      }
      if (!grow && after.evictions == 0) {
        // Everything is in use: the next write that ends comes back to it.
        upkeep_scheduled_ = false;
        return;
      }
      admit_waiting(&after);
    }
    carry_out(&after);
    if (grow) grow_once();
  }
}

// Small stores stay small: each step is about as large as all steps before it.
uint64_t WriterStore::growth_step() const {
  const uint64_t least = std::max<uint64_t>(1, kFirstGrowthBytes / format_.slot_bytes);
  return std::min(std::max(least, slots_there_), format_.segment_slots);
}

void WriterStore::grow_once() {
  uint64_t step = 0;
  {
    const std::lock_guard lock(mutex_);
    step = growth_step();
  }
  auto grown = segments_.grow(step);
  if (grown.ok() && grown.value().count > 0) {
    const Status reserved = index_->reserve(grown.value().first, grown.value().count);
    if (!reserved.ok()) grown = reserved;
  }
  if (grown.ok() && options_.durability != Durability::none) {
    const Status named = io::sync_folder(options_.path);
    if (!named.ok()) grown = named;
  }
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    growing_ = false;
    const uint32_t count = grown.ok() ? grown.value().count : 0;
    for (uint32_t i = 0; i < count; ++i) free_.add(grown.value().first + i);
    slots_there_ += count;
    if (count == 0) growth_stopped_until_ = std::chrono::steady_clock::now() + kGrowthPause;
    admit_waiting(&after);
  }
  if (!grown.ok()) {
    log(LogLevel::warning, "pages: %s can not grow, older blocks make room instead: %s",
        options_.path.c_str(), grown.status().message().c_str());
  }
  carry_out(&after);
}

}  // namespace ucm::pages
