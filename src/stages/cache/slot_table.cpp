// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/slot_table.h"

namespace ucm::stages::cache {

SlotTable::SlotTable(std::shared_ptr<Pool> pool, std::unique_ptr<base::EvictionPolicy> policy,
                     const Keeping& keeping)
    : pool_(std::move(pool)),
      policy_(std::move(policy)),
      retain_(keeping.retain),
      second_use_(keeping.second_use && keeping.retain
                      ? std::make_unique<base::SecondUse>(static_cast<uint32_t>(pool_->slots()))
                      : nullptr),
      index_(static_cast<uint32_t>(pool_->slots())),
      state_(pool_->slots(), SlotState::free),
      pins_(pool_->slots(), 0),
      dropped_(pool_->slots(), false),
      refused_slots_(pool_->slots(), false),
      kept_(pool_->slots(), keeping.keep_share),
      leases_(pool_->slots()) {}

void SlotTable::find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) const {
  constexpr size_t kChunk = 256;
  uint32_t slots[kChunk];
  for (size_t start = 0; start < keys.size(); start += kChunk) {
    const size_t count = std::min(kChunk, keys.size() - start);
    index_.find_batch(keys.subspan(start, count), std::span(slots, count));
    for (size_t i = 0; i < count; ++i) {
      present[start + i] = slots[i] != kNone && state_[slots[i]] == SlotState::ready;
    }
  }
}

uint32_t SlotTable::acquire(const BlockKey& key) {
  Lease lease = pool_->try_lease();
  if (!lease) {
    const std::optional<uint32_t> victim =
        policy_->evict([this](uint32_t slot) { return pins_[slot] == 0 && !kept_.has(slot); });
    if (!victim) return kNone;
    ++evicted_;
    drop(*victim);
    lease = pool_->try_lease();
    if (!lease) return kNone;
  }
  const uint32_t slot = lease.slot();
  leases_[slot] = std::move(lease);
  index_.insert(key, slot);
  state_[slot] = SlotState::filling;
  ++used_;
  return slot;
}

void SlotTable::make_ready(uint32_t slot) {
  state_[slot] = SlotState::ready;
  ++ready_blocks_;
  const uint64_t fingerprint = mix(index_.key(slot));
  policy_->insert(slot, fingerprint);
  refused_slots_[slot] = second_use_ && !second_use_->admit(fingerprint);
}

void SlotTable::unpin(uint32_t slot) {
  if (--pins_[slot] != 0) return;
  if (dropped_[slot]) {
    release(slot);
  } else if (state_[slot] == SlotState::ready && (!retain_ || refused_slots_[slot])) {
    refused_ += retain_;
    drop(slot);
  }
}

void SlotTable::drop(uint32_t slot) {
  if (dropped_[slot]) return;
  if (state_[slot] == SlotState::ready) {
    --ready_blocks_;
    policy_->erase(slot);
  }
  index_.erase(slot);
  kept_.remove(slot);
  dropped_[slot] = true;
  if (pins_[slot] == 0) release(slot);
}

void SlotTable::release(uint32_t slot) {
  state_[slot] = SlotState::free;
  dropped_[slot] = false;
  --used_;
  leases_[slot].reset();
}

}  // namespace ucm::stages::cache
