// SPDX-License-Identifier: Apache-2.0
#include "stages/fake/fake_index.h"

namespace ucm {

FakeIndex::FakeIndex(std::unique_ptr<base::EvictionPolicy> policy, uint32_t capacity,
                     uint32_t shards, double pin_limit)
    : policy_(std::move(policy)),
      shards_(shards == 0 ? 1 : shards),
      slot_keys_(capacity),
      kept_(capacity, pin_limit) {
  free_slots_.reserve(capacity);
  for (uint32_t slot = capacity; slot > 0; --slot) free_slots_.push_back(slot - 1);
}

bool FakeIndex::present(const BlockKey& key, bool touch) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end() || found->second.missing > 0) return false;
  if (touch) policy_->touch(found->second.slot);
  return true;
}

uint32_t FakeIndex::add(const BlockKey& key, uint32_t shard) {
  const std::lock_guard lock(mutex_);
  uint32_t evicted = 0;
  auto found = entries_.find(key);
  if (found == entries_.end()) {
    const std::optional<uint32_t> slot = take_slot(&evicted);
    if (!slot) return 0;
    found = entries_.try_emplace(key).first;
    found->second.slot = *slot;
    found->second.missing = shards_;
    if (shards_ > 1) found->second.arrived.resize(shards_);
    slot_keys_[*slot] = key;
    policy_->insert(*slot, mix(key));
  } else {
    policy_->touch(found->second.slot);
  }
  Entry& entry = found->second;
  if (entry.missing == 0) return evicted;
  if (shards_ > 1) {
    if (entry.arrived[shard]) return evicted;
    entry.arrived[shard] = true;
  }
  --entry.missing;
  return evicted;
}

void FakeIndex::renew(const BlockKey& key) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found != entries_.end()) policy_->renew(found->second.slot);
}

void FakeIndex::remove(const BlockKey& key) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return;
  policy_->erase(found->second.slot);
  kept_.remove(found->second.slot);
  free_slots_.push_back(found->second.slot);
  entries_.erase(found);
}

bool FakeIndex::pin(const BlockKey& key) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  return found != entries_.end() && found->second.missing == 0 && kept_.add(found->second.slot);
}

void FakeIndex::unpin(const BlockKey& key) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(key);
  if (found != entries_.end()) kept_.remove(found->second.slot);
}

size_t FakeIndex::pinned() const {
  const std::lock_guard lock(mutex_);
  return kept_.size();
}

size_t FakeIndex::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

std::optional<uint32_t> FakeIndex::take_slot(uint32_t* evicted) {
  if (!free_slots_.empty()) {
    const uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    return slot;
  }
  const std::optional<uint32_t> slot =
      policy_->evict([this](uint32_t candidate) { return !kept_.has(candidate); });
  if (!slot) return slot;
  entries_.erase(slot_keys_[*slot]);
  *evicted = 1;
  return slot;
}

}  // namespace ucm
