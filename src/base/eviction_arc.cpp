// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_arc.h"

#include <algorithm>
#include <utility>

namespace ucm::base {

ArcPolicy::ArcPolicy(uint32_t capacity, StateArena& arena, FingerprintOf owner)
    : queues_(capacity, capacity + 1, arena, std::move(owner)), state_(arena.take<State>(1)) {}

void ArcPolicy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  const uint32_t key = short_fingerprint(fingerprint);
  const auto ghost = queues_.ghost(key);
  if (ghost) {
    adapt(*ghost);
    queues_.forget_ghost(key);
  }
  queues_.push(ghost ? kOften : kOnce, slot, key);
  trim_ghosts(key);
}

void ArcPolicy::touch(uint32_t slot) {
  if (queues_.holds(slot)) queues_.move(kOften, slot);
}

std::optional<uint32_t> ArcPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  const uint16_t first = queues_.size(kOnce) > state_->target ? kOnce : kOften;
  const std::optional<uint32_t> victim = evict_from(first, evictable);
  return victim ? victim : evict_from(kOften - first, evictable);
}

std::optional<uint32_t> ArcPolicy::evict_from(uint16_t list,
                                              const std::function<bool(uint32_t)>& evictable) {
  for (uint32_t slot = queues_.oldest(list); slot != SlotLists::kNone; slot = queues_.newer(slot)) {
    if (!evictable(slot)) continue;
    queues_.leave(slot, true);
    state_->target = std::min(state_->target, queues_.full());
    trim_ghosts(queues_.fingerprint(slot));
    return slot;
  }
  return std::nullopt;
}

// A block that comes back soon after it left shows which of the lists was too short.
void ArcPolicy::adapt(uint16_t list) {
  const uint32_t own = queues_.ghosts(list);
  const uint32_t other = queues_.ghosts(kOften - list);
  const uint32_t step = std::max(1u, other / own);
  if (list == kOnce) {
    state_->target = std::min(queues_.full(), state_->target + step);
  } else {
    state_->target -= std::min(state_->target, step);
  }
}

// Each list together with its ghosts describes the past of one cache of this size, both of two.
void ArcPolicy::trim_ghosts(uint32_t fingerprint) {
  const uint32_t full = queues_.full();
  queues_.trim_ghosts(fingerprint, kOnce, full - std::min(full, queues_.size(kOnce)));
  const uint32_t others = queues_.resident() + queues_.ghosts(kOnce);
  queues_.trim_ghosts(fingerprint, kOften, 2 * full - std::min(2 * full, others));
}

}  // namespace ucm::base
