// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_shadow.h"

#include <algorithm>

namespace ucm::base {

ShadowCache::ShadowCache(std::unique_ptr<EvictionPolicy> policy, uint32_t slots)
    : policy_(std::move(policy)), most_slots_(slots), slots_(slots) {}

bool ShadowCache::use(uint64_t fingerprint) {
  const uint32_t found = table_.find(short_fingerprint(fingerprint));
  if (found != FingerprintTable::kNone) {
    policy_->touch(found);
    return true;
  }
  while (held_ >= slots_) evict();
  uint32_t slot = used_;
  if (free_.empty()) {
    ++used_;
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  ++held_;
  table_.add(slot, short_fingerprint(fingerprint));
  policy_->insert(slot, fingerprint);
  return false;
}

void ShadowCache::forget(uint64_t fingerprint) {
  const uint32_t slot = table_.find(short_fingerprint(fingerprint));
  if (slot == FingerprintTable::kNone) return;
  policy_->erase(slot);
  table_.remove(slot);
  free_.push_back(slot);
  --held_;
}

void ShadowCache::resize(uint32_t slots) { slots_ = std::clamp(slots, 1u, most_slots_); }

void ShadowCache::evict() {
  // All slots are known to the policy and evictable: there is always a victim.
  const uint32_t slot = policy_->evict([](uint32_t) { return true; }).value();
  table_.remove(slot);
  free_.push_back(slot);
  --held_;
}

}  // namespace ucm::base
