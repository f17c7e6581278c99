// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lru2.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace ucm::base {
namespace {

// As many uses as this share of the capacity lie between two uses that count as two.
constexpr uint32_t kWindowShare = 64;
// And so many are an epoch: those that are told apart span 128 capacities of uses.
constexpr uint32_t kUnitShare = 8;
// Blocks of KV come back after several times the life of a slot; one ghost a slot costs 1 to 3
// points of hit rate in small caches, four would gain about one.
constexpr uint32_t kGhostsPerSlot = 2;
// Lines of the table fill unevenly. All ghosts of one time leave together before a line is full: a
// chain with a hole is lost behind it.
constexpr double kFilled = 0.85;

}  // namespace

Lru2Policy::Lru2Policy(uint32_t capacity, StateArena& arena)
    : window_(capacity / kWindowShare),
      unit_(std::max(1u, capacity / kUnitShare)),
      most_ghosts_(static_cast<uint32_t>(kFilled * kGhostsPerSlot * capacity) + 1),
      state_(arena.take<State>(1)),
      lists_(capacity, static_cast<uint16_t>(1 + kEpochs), arena),
      fingerprints_(arena.take<uint32_t>(capacity)),
      last_(arena.take<uint32_t>(capacity)),
      earlier_(arena.take<uint16_t>(capacity)),
      ghosts_of_(arena.take<uint32_t>(kEpochs)),
      ghosts_(kGhostsPerSlot * capacity + 1, arena) {}

void Lru2Policy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  tick();
  fingerprints_[slot] = short_fingerprint(fingerprint);
  last_[slot] = static_cast<uint32_t>(state_->clock);
  earlier_[slot] = take_ghost(fingerprints_[slot]);
  link(slot);
}

void Lru2Policy::touch(uint32_t slot) {
  if (!known(slot)) return;
  tick();
  const bool same_use = recent(slot);
  if (!same_use) earlier_[slot] = stamp(last_use(slot) / unit_);
  last_[slot] = static_cast<uint32_t>(state_->clock);
  // Of two uses the earlier one counts, and it is the same as before.
  if (same_use && earlier_[slot] != 0 && order() == Order::two_uses) return;
  lists_.remove(slot);
  link(slot);
}

void Lru2Policy::erase(uint32_t slot) {
  if (known(slot)) lists_.remove(slot);
}

std::optional<uint32_t> Lru2Policy::evict(const std::function<bool(uint32_t)>& evictable) {
  if (order() == Order::last_use) return evict_oldest(evictable);
  std::optional<uint32_t> victim = evict_from(kOnce, evictable, true);
  if (!victim) victim = evict_oldest(evictable);
  if (!victim) victim = evict_from(kOnce, evictable, false);
  return victim;
}

std::optional<uint32_t> Lru2Policy::evict_oldest(const std::function<bool(uint32_t)>& evictable) {
  const uint64_t now = epoch();
  while (state_->oldest < now && lists_.size(list_of(state_->oldest)) == 0) ++state_->oldest;
  for (uint64_t each = state_->oldest; each <= now; ++each) {
    if (const auto victim = evict_from(list_of(each), evictable, false)) return victim;
  }
  return std::nullopt;
}

std::optional<uint32_t> Lru2Policy::evict_from(uint16_t list,
                                               const std::function<bool(uint32_t)>& evictable,
                                               bool spare_recent) {
  for (uint32_t slot = lists_.oldest(list); slot != SlotLists::kNone; slot = lists_.newer(slot)) {
    if (spare_recent && recent(slot)) break;
    if (!evictable(slot)) continue;
    leave(slot);
    return slot;
  }
  return std::nullopt;
}

void Lru2Policy::leave(uint32_t slot) {
  lists_.remove(slot);
  (void)take_ghost(fingerprints_[slot]);
  const uint64_t when = std::max(last_use(slot) / unit_, first_epoch());
  (void)ghosts_.push(fingerprints_[slot], stamp(when));
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
  const uint16_t found = ghosts_.take(fingerprint).value_or(0);
  if (found == 0) return 0;
  const uint64_t when = epoch_of(found);
  if (when < state_->first_ghosts) return 0;
  // What a full line dropped is still counted.
  if (uint32_t& ghosts = ghosts_of_[when % kEpochs]; ghosts > 0) {
    --ghosts;
    --state_->ghosts;
  }
  return found;
}

void Lru2Policy::reorder(Order order) {
  if (order == state_->order) return;
  state_->order = order;
  std::vector<std::pair<uint64_t, uint32_t>> slots;  // by their last uses, which are all different
  const auto empty = [&](uint16_t list) {
    for (; lists_.size(list) > 0; lists_.remove(slots.back().second)) {
      slots.emplace_back(last_use(lists_.oldest(list)), lists_.oldest(list));
    }
  };
  empty(kOnce);
  for (uint64_t each = state_->oldest, now = epoch(); each <= now; ++each) empty(list_of(each));
  // Epochs are too coarse for LRU: slots of one keep the order of their last uses.
  std::sort(slots.begin(), slots.end());
  for (const auto& [when, slot] : slots) link(slot);
}

uint64_t Lru2Policy::epoch_of(uint16_t stamp) const {
  const uint64_t now = epoch();
  const uint64_t age = (now % 0xFFFF + 0xFFFF - (stamp - 1u)) % 0xFFFF;
  return now - std::min<uint64_t>({age, now, kEpochs - 1});
}

uint64_t Lru2Policy::last_use(uint32_t slot) const {
  return state_->clock - static_cast<uint32_t>(static_cast<uint32_t>(state_->clock) - last_[slot]);
}

void Lru2Policy::tick() {
  const uint64_t before = epoch();
  ++state_->clock;
  const uint64_t now = epoch();
  if (now == before) return;
  // The list of the new epoch was that of the one that is no longer told apart from the next.
  const uint16_t list = list_of(now);
  const uint64_t first = first_epoch();
  while (state_->first_ghosts < first) forget_ghosts();
  while (lists_.size(list) > 0) lists_.move_newest(list_of(first), lists_.oldest(list));
  state_->oldest = std::max(state_->oldest, first);
}

void Lru2Policy::link(uint32_t slot) {
  if (order() == Order::two_uses && earlier_[slot] == 0) {
    lists_.push_newest(kOnce, slot);
    return;
  }
  const bool by_last = order() == Order::last_use;
  const uint64_t when = epoch_of(by_last ? stamp(last_use(slot) / unit_) : earlier_[slot]);
  state_->oldest = std::min(state_->oldest, when);
  lists_.push_newest(list_of(when), slot);
}

}  // namespace ucm::base
