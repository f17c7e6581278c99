// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_shadow.h"

#include <algorithm>

namespace ucm::base {

ShadowCache::ShadowCache(uint32_t slots, EvictionPolicy& policy, StateArena& arena)
    : slots_(slots),
      policy_(policy),
      state_(arena.take<State>(1)),
      free_(arena.take<uint32_t>(slots)),
      table_(slots, arena) {}

bool ShadowCache::use(uint32_t fingerprint) {
  const uint32_t found = table_.find(fingerprint);
  if (found != kNone) {
    policy_.touch(found);
    return true;
  }
  while (state_->held >= slots_ - state_->missing) evict();
  const uint32_t slot = state_->freed > 0 ? free_[--state_->freed] : state_->given++;
  ++state_->held;
  table_.add(slot, fingerprint);
  policy_.insert(slot, fingerprint);
  return false;
}

void ShadowCache::forget(uint32_t fingerprint) {
  const uint32_t slot = table_.find(fingerprint);
  if (slot == kNone) return;
  policy_.erase(slot);
  free(slot);
}

void ShadowCache::resize(uint32_t slots) {
  state_->missing = slots_ - std::clamp(slots, 1u, slots_);
}

void ShadowCache::evict() {
  // All slots are known to the policy and evictable: there is always a victim.
  free(policy_.evict([](uint32_t) { return true; }).value());
}

void ShadowCache::free(uint32_t slot) {
  table_.remove(slot);
  free_[state_->freed++] = slot;
  --state_->held;
}

}  // namespace ucm::base
