// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lru2.h"

#include <algorithm>
#include <utility>

namespace ucm::base {
namespace {

// As many uses as this share of the capacity lie between two uses that count as two.
constexpr uint32_t kWindowShare = 64;
// And so many are an epoch: those that are told apart span 128 capacities of uses.
constexpr uint32_t kUnitShare = 8;
// Last uses are told apart as finely as two bytes can over that time.
constexpr uint32_t kQuantumShare = 512;
// What was used longer ago, in quanta, counts as used then. Every slot is looked after once in a
// capacity of uses, 1,024 quanta at most: before two bytes would come round.
constexpr uint16_t kOldestUse = 0xF000;
// Epochs are kept in 14 bits, zero stands for none.
constexpr uint64_t kStamps = 0x3FFF;
// Blocks of KV come back after several times the life of a slot; one ghost a slot costs 1 to 3
// points of hit rate in small caches, four would gain about one.
constexpr uint32_t kGhostsPerSlot = 2;
// Lines of the table fill unevenly. All ghosts of one time leave together before a line is full: a
// chain with a hole is lost behind it.
constexpr double kFilled = 0.85;
// Slots that one call brings from one order to the other.
constexpr unsigned kRegroupedPerUse = 4;
constexpr unsigned kRegroupedPerVictim = 8;

uint16_t stamp(uint64_t epoch) { return static_cast<uint16_t>(1 + epoch % kStamps); }

}  // namespace

Lru2Policy::Lru2Policy(uint32_t capacity, StateArena& arena, FingerprintOf owner)
    : capacity_(capacity),
      window_(capacity / kWindowShare),
      unit_(std::max(1u, capacity / kUnitShare)),
      quantum_(std::max(1u, capacity / kQuantumShare)),
      most_ghosts_(static_cast<uint32_t>(kFilled * kGhostsPerSlot * capacity) + 1),
      state_(arena.take<State>(1)),
      lists_(capacity, static_cast<uint16_t>(kFirstEpochList + kEpochs), arena),
      fingerprints_(capacity, std::move(owner), arena),
      last_(arena.take<uint16_t>(capacity)),
      marks_(arena.take<uint16_t>(capacity)),
      ghosts_of_(arena.take<uint32_t>(kEpochs)),
      ghosts_(kGhostsPerSlot * capacity + 1, arena) {}

void Lru2Policy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  tick();
  const uint32_t key = short_fingerprint(fingerprint);
  fingerprints_.set(slot, key);
  set_used(slot);
  set_earlier(slot, take_ghost(key));
  link(slot, order() == Order::last_use ? kByUse : by_uses(slot), true);
}

void Lru2Policy::touch(uint32_t slot) {
  if (!known(slot)) return;
  tick();
  if (recent(slot)) return renew(slot);
  unlink(slot);
  set_earlier(slot, stamp(last_use(slot) / unit_));
  set_used(slot);
  link(slot, order() == Order::last_use ? kByUse : by_uses(slot), true);
}

void Lru2Policy::renew(uint32_t slot) {
  if (!known(slot)) return;
  set_used(slot);
  // Of two uses the earlier one counts, and it is the same as before.
  if (order() == Order::two_uses && place_of(slot) == kByEpoch) return;
  unlink(slot);
  link(slot, order() == Order::last_use ? kByUse : by_uses(slot), true);
}

void Lru2Policy::erase(uint32_t slot) {
  if (known(slot)) unlink(slot);
}

std::optional<uint32_t> Lru2Policy::evict(const std::function<bool(uint32_t)>& evictable) {
  uint32_t victim = SlotLists::kNone;
  if (order() == Order::two_uses) {
    victim = victim_by_two_uses(evictable);
  } else {
    // What was not used since the order changed is ordered by what counted then.
    victim = older(first(kOnceList, evictable), first_by_epoch(evictable));
    victim = older(victim, first(kByUseList, evictable));
  }
  if (victim == SlotLists::kNone) return std::nullopt;
  leave(victim);
  return victim;
}

uint32_t Lru2Policy::victim_by_two_uses(const std::function<bool(uint32_t)>& evictable) {
  for (unsigned i = 0; i < kRegroupedPerVictim; ++i) {
    const uint32_t slot = lists_.oldest(kByUseList);
    if (slot == SlotLists::kNone || earlier(slot) == 0) break;
    regroup(slot);
  }
  const uint32_t by_use = first(kByUseList, evictable);
  uint32_t once = first(kOnceList, evictable);
  if (by_use != SlotLists::kNone && earlier(by_use) == 0) once = older(once, by_use);
  if (once != SlotLists::kNone && !recent(once)) return once;
  const uint32_t twice = first_by_epoch(evictable);
  if (twice != SlotLists::kNone) return twice;
  return once != SlotLists::kNone ? once : by_use;
}

uint32_t Lru2Policy::first_by_epoch(const std::function<bool(uint32_t)>& evictable) {
  const uint64_t now = epoch();
  while (state_->oldest < now && lists_.size(list_of(state_->oldest)) == 0) ++state_->oldest;
  for (uint64_t each = state_->oldest; each <= now; ++each) {
    const uint32_t slot = first(list_of(each), evictable);
    if (slot != SlotLists::kNone) return slot;
  }
  return SlotLists::kNone;
}

uint32_t Lru2Policy::first(uint16_t list, const std::function<bool(uint32_t)>& evictable) const {
  uint32_t slot = lists_.oldest(list);
  while (slot != SlotLists::kNone && !evictable(slot)) slot = lists_.newer(slot);
  return slot;
}

// Of two slots, which may be none, the one that was used longer ago.
uint32_t Lru2Policy::older(uint32_t a, uint32_t b) const {
  if (a == SlotLists::kNone || b == SlotLists::kNone) return a == SlotLists::kNone ? b : a;
  return last_use(b) < last_use(a) ? b : a;
}

void Lru2Policy::leave(uint32_t slot) {
  unlink(slot);
  const uint32_t key = fingerprint(slot);
  (void)take_ghost(key);
  const uint64_t when = std::max(last_use(slot) / unit_, first_epoch());
  (void)ghosts_.push(key, static_cast<uint16_t>(when % kEpochs));
  if (when < state_->first_ghosts) return;
  ++ghosts_of_[when % kEpochs];
  ++state_->ghosts;
  while (state_->ghosts > most_ghosts_) forget_ghosts();
}

void Lru2Policy::forget_ghosts() {
  uint32_t& ghosts = ghosts_of_[state_->first_ghosts % kEpochs];
  state_->ghosts -= ghosts;
  ghosts = 0;
  ++state_->first_ghosts;
}

// The stamp of its last use; 0 when there is none.
uint16_t Lru2Policy::take_ghost(uint32_t fingerprint) {
  const auto found = ghosts_.take(fingerprint);
  if (!found) return 0;
  const uint64_t age = (epoch() + kEpochs - *found) % kEpochs;
  if (age > epoch() || epoch() - age < state_->first_ghosts) return 0;
  const uint64_t when = epoch() - age;
  // What a full line dropped is still counted.
  if (uint32_t& ghosts = ghosts_of_[when % kEpochs]; ghosts > 0) {
    --ghosts;
    --state_->ghosts;
  }
  return stamp(when);
}

uint64_t Lru2Policy::epoch_of(uint16_t stamp) const {
  const uint64_t now = epoch();
  const uint64_t age = (now % kStamps + kStamps - (stamp - 1u)) % kStamps;
  return now - std::min<uint64_t>({age, now, kEpochs - 1});
}

uint64_t Lru2Policy::last_use(uint32_t slot) const {
  const uint64_t now = state_->clock / quantum_;
  const auto age = static_cast<uint16_t>(static_cast<uint16_t>(now) - last_[slot]);
  return (now - std::min<uint64_t>(now, age)) * quantum_;
}

void Lru2Policy::set_used(uint32_t slot) {
  last_[slot] = static_cast<uint16_t>(state_->clock / quantum_);
}

void Lru2Policy::set_earlier(uint32_t slot, uint16_t stamp) {
  marks_[slot] = static_cast<uint16_t>(stamp << 2 | place_of(slot));
}

void Lru2Policy::tick() {
  const uint64_t before = epoch();
  ++state_->clock;
  if (const uint64_t now = epoch(); now != before) {
    // The list of the new epoch was that of the one that is no longer told apart from the next.
    const uint64_t first = first_epoch();
    while (state_->first_ghosts < first) forget_ghosts();
    if (now >= kEpochs) lists_.take_over(list_of(first), list_of(now));
    state_->oldest = std::max(state_->oldest, first);
  }
  look_after(state_->hand);
  state_->hand = state_->hand + 1 == capacity_ ? 0 : state_->hand + 1;
  for (unsigned i = 0; i < kRegroupedPerUse && order() == Order::two_uses; ++i) {
    const uint32_t slot = lists_.newest(kByUseList);
    if (slot == SlotLists::kNone) break;
    regroup(slot);
  }
}

// Times that the slot's few bits would soon take for later ones become the oldest there are.
void Lru2Policy::look_after(uint32_t slot) {
  if (!known(slot)) return;
  const auto now = static_cast<uint16_t>(state_->clock / quantum_);
  if (static_cast<uint16_t>(now - last_[slot]) > kOldestUse) {
    last_[slot] = static_cast<uint16_t>(now - kOldestUse);
  }
  if (earlier(slot) != 0) set_earlier(slot, stamp(epoch_of(earlier(slot))));
}

// From the newest on, each slot comes to the oldest end: so all are in order in the end.
void Lru2Policy::regroup(uint32_t slot) {
  unlink(slot);
  link(slot, by_uses(slot), false);
}

uint16_t Lru2Policy::list_with(uint32_t slot) const {
  const uint16_t place = place_of(slot);
  if (place == kByEpoch) return list_of(epoch_of(earlier(slot)));
  return place == kOnce ? kOnceList : kByUseList;
}

void Lru2Policy::link(uint32_t slot, uint16_t place, bool newest) {
  marks_[slot] = static_cast<uint16_t>(earlier(slot) << 2 | place);
  if (place == kByEpoch) state_->oldest = std::min(state_->oldest, epoch_of(earlier(slot)));
  newest ? lists_.push_newest(list_with(slot), slot) : lists_.push_oldest(list_with(slot), slot);
  ++state_->moves;
}

void Lru2Policy::unlink(uint32_t slot) {
  lists_.remove(list_with(slot), slot);
  marks_[slot] = static_cast<uint16_t>(earlier(slot) << 2);
}

}  // namespace ucm::base
