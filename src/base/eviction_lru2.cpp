// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lru2.h"

namespace ucm::base {
namespace {

// As many uses as this share of the capacity lie between two uses that count as two.
constexpr uint32_t kWindowShare = 64;
// Blocks of KV come back after several times the life of a slot; one ghost a slot costs 1 to 3
// points of hit rate in small caches, four would gain about one.
constexpr uint64_t kGhostsPerSlot = 2;

}  // namespace

Lru2Policy::Lru2Policy(uint32_t capacity) : capacity_(capacity), window_(capacity / kWindowShare) {}

void Lru2Policy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  if (slot >= slots_.size()) slots_.resize(slot + 1);
  slots_[slot] = {short_fingerprint(fingerprint), ++clock_, 0};
  order_.push_newest(0, latest_place(slot));
  const uint32_t ghost = ghosts_.find(slots_[slot].fingerprint);
  if (ghost == GhostLists::kNone) {
    once_.push_newest(0, slot);
  } else {
    order_.replace(ghost_place(ghost), earlier_place(slot));
    ghosts_.remove(ghost);
  }
}

void Lru2Policy::touch(uint32_t slot) {
  if (!known(slot)) return;
  ++clock_;
  const bool same_use = clock_ - slots_[slot].clock <= window_;
  slots_[slot].clock = clock_;
  if (same_use) {
    order_.move_newest(0, latest_place(slot));
    if (once_.linked(slot)) once_.move_newest(0, slot);
    return;
  }
  if (once_.linked(slot)) {
    once_.remove(slot);
  } else {
    order_.remove(earlier_place(slot));
  }
  slots_[slot].latest ^= 1;
  order_.push_newest(0, latest_place(slot));
}

void Lru2Policy::erase(uint32_t slot) {
  if (!known(slot)) return;
  order_.remove(latest_place(slot));
  if (once_.linked(slot)) {
    once_.remove(slot);
  } else {
    order_.remove(earlier_place(slot));
  }
}

void Lru2Policy::displace(uint32_t slot) {
  if (!known(slot)) return;
  const uint32_t fingerprint = slots_[slot].fingerprint;
  if (const uint32_t before = ghosts_.find(fingerprint); before != GhostLists::kNone) {
    forget_ghost(before);
  }
  if (ghosts_.size() >= kGhostsPerSlot * capacity_) forget_ghost(ghosts_.oldest(0));
  order_.replace(latest_place(slot), ghost_place(ghosts_.push(0, fingerprint)));
  if (once_.linked(slot)) {
    once_.remove(slot);
  } else {
    order_.remove(earlier_place(slot));
  }
}

void Lru2Policy::forget_ghost(uint32_t ghost) {
  order_.remove(ghost_place(ghost));
  ghosts_.remove(ghost);
}

std::optional<uint32_t> Lru2Policy::evict(const std::function<bool(uint32_t)>& evictable) {
  std::optional<uint32_t> victim = evict_once(evictable, true);
  if (!victim) victim = evict_often(evictable);
  if (!victim) victim = evict_once(evictable, false);
  return victim;
}

std::optional<uint32_t> Lru2Policy::evict_once(const std::function<bool(uint32_t)>& evictable,
                                               bool spare) {
  for (uint32_t slot = once_.oldest(0); slot != IndexLists::kNone; slot = once_.newer(slot)) {
    if (spare && recent(slot)) break;
    if (!evictable(slot)) continue;
    displace(slot);
    return slot;
  }
  return std::nullopt;
}

std::optional<uint32_t> Lru2Policy::evict_often(const std::function<bool(uint32_t)>& evictable) {
  uint32_t next = IndexLists::kNone;
  for (uint32_t place = order_.oldest(0); place != IndexLists::kNone; place = next) {
    next = order_.newer(place);
    if (place >= 2 * capacity_) {
      // Older than what any slot is judged by: it would be the next victim if it came back.
      forget_ghost(place - 2 * capacity_);
      continue;
    }
    const uint32_t slot = place / 2;
    if (place != earlier_place(slot) || !evictable(slot)) continue;
    displace(slot);
    return slot;
  }
  return std::nullopt;
}

}  // namespace ucm::base
