// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/slot_table.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <utility>

#include "base/slot_marks.h"

namespace ucm::stages::cache {
namespace {

// Slots that rest or were abandoned do so for long: not every search for a slot looks at them all.
constexpr int kLooksPerRest = 64;
// Keys that are looked for together.
constexpr size_t kChunk = 256;

uint8_t bit_of(uint32_t shard) { return static_cast<uint8_t>(1u << (shard % 8)); }

uint32_t count(std::span<const uint8_t> shards) {
  uint32_t count = 0;
  for (const uint8_t byte : shards) count += static_cast<uint32_t>(std::popcount(byte));
  return count;
}

}  // namespace

uint32_t now_ms() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<uint32_t>(now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

SlotTable::SlotTable(PoolMemory memory, const Keeping& keeping)
    : memory_(std::move(memory)),
      directory_(memory_.directory),
      index_(directory_),
      policy_(directory_.attach_policy()),
      retain_(keeping.retain),
      most_kept_(base::share_of(directory_.slots(), keeping.keep_share)),
      second_use_(keeping.second_use && keeping.retain
                      ? std::make_unique<base::SecondUse>(directory_.slots())
                      : nullptr),
      member_(memory_.segment ? memory_.segment->member() : memory::SharedSegment::kNoMember),
      member_bit_(uint64_t{1} << (shared() ? member_ : 0)),
      pins_(memory_.slots ? directory_.slots() : 0) {
  if (!shared()) return;
  lock();
  // Whoever had this number before is gone, and may have left its marks.
  reap_members(member_bit_);
  header().members |= member_bit_;
  reap();
  unlock();
}

SlotTable::~SlotTable() {
  if (shared()) leave();
}

void SlotTable::lock() {
  if (!memory_.segment) return;
  if (!header().mutex.lock()) return;
  repair();
  header().mutex.repaired();
}

void SlotTable::unlock() {
  if (!memory_.segment) return;
  if (memory_.slots) memory_.slots->set_used(header().used);
  const uint64_t others = header().waiting & (shared() ? ~member_bit_ : ~uint64_t{0});
  const bool tell = std::exchange(changed_, false) && others != 0;
  header().mutex.unlock();
  if (tell) header().event.signal();
}

void SlotTable::prefetch(uint32_t slot) const {
  __builtin_prefetch(&entry(slot), 1);
  __builtin_prefetch(directory_.claimed(slot).data(), 1);
  __builtin_prefetch(&pins_[slot], 1);
}

void SlotTable::find_batch(std::span<const BlockKey> keys, std::span<uint32_t> slots) const {
  if (memory_.mask == BlockKey()) return index_.find_batch(keys, slots);
  BlockKey wanted[kChunk];
  for (size_t start = 0; start < keys.size(); start += kChunk) {
    const size_t count = std::min(kChunk, keys.size() - start);
    for (size_t i = 0; i < count; ++i) wanted[i] = masked(keys[start + i]);
    index_.find_batch(std::span(wanted, count), slots.subspan(start, count));
  }
}

void SlotTable::find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) const {
  uint32_t slots[kChunk];
  for (size_t start = 0; start < keys.size(); start += kChunk) {
    const size_t count = std::min(kChunk, keys.size() - start);
    find_batch(keys.subspan(start, count), std::span(slots, count));
    for (size_t i = 0; i < count; ++i) present[start + i] = slots[i] != kNone && ready(slots[i]);
  }
}

// Another process may read an entry after this one was killed between two instructions: what
// stands before a change of the state has happened before it, and what stands behind, after.
void SlotTable::set_state(uint32_t slot, SlotState state) {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  entry(slot).state = state;
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

uint32_t SlotTable::take_free() {
  DirectoryHeader& head = header();
  if (head.free_head < slots()) {
    const uint32_t slot = head.free_head;
    head.free_head = static_cast<uint32_t>(entry(slot).key.low);
    return slot;
  }
  return head.fresh < slots() ? head.fresh++ : kNone;
}

uint32_t SlotTable::evict() {
  uint32_t slot = release_rested() ? take_free() : kNone;
  while (slot == kNone) {
    const std::optional<uint32_t> victim = policy_->evict([this](uint32_t candidate) {
      return entry(candidate).pinned_by == 0 && !entry(candidate).kept;
    });
    if (!victim) break;
    ++evicted_;
    drop(*victim);
    slot = take_free();  // none when the victim has to rest
  }
  return slot;
}

uint32_t SlotTable::acquire(const BlockKey& key, SlotState state) {
  uint32_t slot = take_free();
  if (slot == kNone) slot = evict();
  if (slot == kNone) return kNone;
  SlotEntry& chosen = entry(slot);
  chosen.key = masked(key);
  chosen.pinned_by = 0;
  chosen.since = now_ms();
  chosen.doomed = false;
  chosen.tainted = false;
  chosen.kept = false;
  chosen.writer = 0;
  std::ranges::fill(directory_.claimed(slot), 0);
  std::ranges::fill(directory_.copied(slot), 0);
  set_state(slot, state);
  index_.insert(slot);
  ++header().used;
  if (state == SlotState::gathering) ++header().gathering;
  if (memory_.slots) memory_.slots->set_used(header().used);
  return slot;
}

void SlotTable::make_ready(uint32_t slot) {
  if (state(slot) == SlotState::gathering) --header().gathering;
  const uint64_t fingerprint = mix(entry(slot).key);
  entry(slot).refused = second_use_ && !second_use_->admit(fingerprint);
  set_state(slot, SlotState::ready);
  note_use(slot);
  ++header().ready;
  policy_->insert(slot, fingerprint);
  note_change();
}

void SlotTable::pin(uint32_t slot) {
  if (++pins_[slot] == 1) entry(slot).pinned_by |= member_bit_;
}

void SlotTable::unpin(uint32_t slot) {
  if (--pins_[slot] != 0) return;
  SlotEntry& freed = entry(slot);
  freed.pinned_by &= ~member_bit_;
  if (freed.pinned_by != 0) return;
  note_change();
  if (freed.state == SlotState::leaving) {
    if (!freed.tainted) release(slot);
  } else if (freed.state == SlotState::gathering) {
    settle(slot);
  } else if (freed.state == SlotState::ready && (!retain_ || freed.refused)) {
    refused_ += retain_;
    drop(slot);
  }
}

bool SlotTable::keep(uint32_t slot) {
  SlotEntry& wanted = entry(slot);
  if (wanted.state != SlotState::ready || !retain_ || wanted.refused) return false;
  if (wanted.kept) return true;
  if (header().kept >= most_kept_) return false;
  wanted.kept = true;
  ++header().kept;
  return true;
}

void SlotTable::let_go(uint32_t slot) {
  header().kept -= entry(slot).kept ? 1 : 0;
  entry(slot).kept = false;
}

void SlotTable::settle(uint32_t slot) {
  std::ranges::copy(directory_.copied(slot), directory_.claimed(slot).begin());
  if (hopeless(slot)) drop(slot);
}

// Doomed, or complete and never made ready: whoever was about to has died, and the stage below
// does not have it.
bool SlotTable::hopeless(uint32_t slot) const { return entry(slot).doomed || all_claimed(slot); }

void SlotTable::drop(uint32_t slot) {
  SlotEntry& dropped_entry = entry(slot);
  if (dropped_entry.state == SlotState::leaving) return;
  if (dropped_entry.state == SlotState::ready) {
    --header().ready;
    policy_->erase(slot);
    let_go(slot);
  } else if (dropped_entry.state == SlotState::gathering) {
    --header().gathering;
  }
  dropped_entry.since = now_ms();
  set_state(slot, SlotState::leaving);
  index_.erase(slot);
  if (dropped_entry.tainted) ++header().resting;
  note_change();
  if (dropped_entry.pinned_by == 0 && !dropped_entry.tainted) release(slot);
}

void SlotTable::release(uint32_t slot) {
  set_state(slot, SlotState::free);
  entry(slot).key.low = header().free_head;
  header().free_head = slot;
  --header().used;
  if (memory_.slots) memory_.slots->set_used(header().used);
  note_change();
}

void SlotTable::set_writing(uint32_t slot, bool writing) {
  const int own = std::countr_zero(member_bit_) + 1;
  entry(slot).writer = static_cast<uint8_t>(writing ? own : 0);
  note_change();
}

void SlotTable::doom(uint32_t slot) {
  entry(slot).doomed = true;
  note_change();
  if (state(slot) == SlotState::gathering && !copying(slot)) drop(slot);
}

void SlotTable::forget(const BlockKey& key) {
  const uint32_t slot = find(key);
  if (slot == kNone) return;
  if (ready(slot)) {
    drop(slot);
  } else {
    doom(slot);
  }
}

bool SlotTable::overdue(uint32_t slot, std::chrono::nanoseconds age) const {
  if (state(slot) != SlotState::fetching) return false;
  return std::chrono::milliseconds(now_ms() - entry(slot).since) > age;
}

bool SlotTable::reclaim_abandoned(std::chrono::milliseconds age) {
  if (header().gathering == 0) return false;
  const uint32_t now = now_ms();
  if (now - abandoned_seen_ms_ < age.count() / kLooksPerRest) return false;
  for (uint32_t slot = 0; slot < header().fresh; ++slot) {
    const SlotEntry& idle = entry(slot);
    if (idle.state != SlotState::gathering || idle.pinned_by != 0) continue;
    if (now - idle.since < age.count()) continue;
    drop(slot);
    return true;
  }
  abandoned_seen_ms_ = now;
  return false;
}

bool SlotTable::release_rested() {
  if (header().resting == 0) return false;
  if (now_ms() - rest_seen_ms_ < rest_.count() / kLooksPerRest) return false;
  rest_seen_ms_ = now_ms();
  bool any = false;
  for (uint32_t slot = 0; slot < header().fresh; ++slot) {
    const SlotEntry& resting = entry(slot);
    if (resting.state != SlotState::leaving || !resting.tainted) continue;
    if (resting.pinned_by != 0 || now_ms() - resting.since < rest_.count()) continue;
    release(slot);
    --header().resting;
    any = true;
  }
  return any;
}

ShardState SlotTable::claim(uint32_t slot, uint32_t shard) {
  uint8_t& claimed = directory_.claimed(slot)[shard / 8];
  if ((directory_.copied(slot)[shard / 8] & bit_of(shard)) != 0) return ShardState::copied;
  if ((claimed & bit_of(shard)) != 0) return ShardState::copying;
  claimed |= bit_of(shard);
  return ShardState::missing;
}

void SlotTable::unclaim(uint32_t slot, uint32_t shard) {
  directory_.claimed(slot)[shard / 8] &= static_cast<uint8_t>(~bit_of(shard));
  note_change();
}

bool SlotTable::set_copied(uint32_t slot, uint32_t shard) {
  const std::span<uint8_t> copied = directory_.copied(slot);
  copied[shard / 8] |= bit_of(shard);
  note_change();
  return count(copied) == directory_.shards();
}

bool SlotTable::all_claimed(uint32_t slot) const {
  return count(directory_.claimed(slot)) == directory_.shards();
}

bool SlotTable::copying(uint32_t slot) const {
  return !std::ranges::equal(directory_.claimed(slot), directory_.copied(slot));
}

void SlotTable::set_waiting(bool waiting) {
  if (waiting) {
    header().waiting |= member_bit_;
  } else {
    header().waiting &= ~member_bit_;
  }
}

}  // namespace ucm::stages::cache
