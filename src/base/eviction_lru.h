// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction.h"
#include "base/eviction_lists.h"

namespace ucm::base {

// Least recently used: one list of slots. 8 bytes a slot.
class LruPolicy : public EvictionPolicy {
 public:
  LruPolicy(uint32_t capacity, StateArena& arena, const FingerprintOf& = {})
      : lists_(capacity, 1, arena) {}
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void renew(uint32_t slot) override { touch(slot); }
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

 private:
  SlotLists lists_;
};

}  // namespace ucm::base
