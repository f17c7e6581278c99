// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/eviction.h"
#include "base/eviction_ghosts.h"

namespace ucm::base {

// LRU-2 (O'Neil et al., SIGMOD 1993): slots used once leave first, oldest first, then the one whose
// last but one use is oldest. Uses in quick succession count as one, and a slot is spared for that
// time. Ghosts keep the place of their last use. 39 bytes a slot, 68 in two ghosts.
class Lru2Policy : public EvictionPolicy {
 public:
  explicit Lru2Policy(uint32_t capacity);
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  void displace(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

 private:
  struct Slot {
    uint32_t fingerprint = 0;
    uint32_t clock = 0;   // of the last use
    uint32_t latest = 0;  // which of the two places is that of the last use: 0 or 1
  };
  // Each slot has two places in the order of uses, each ghost one behind those of the slots.
  uint32_t latest_place(uint32_t slot) const { return 2 * slot + slots_[slot].latest; }
  uint32_t earlier_place(uint32_t slot) const { return latest_place(slot) ^ 1; }
  uint32_t ghost_place(uint32_t ghost) const { return 2 * capacity_ + ghost; }
  bool known(uint32_t slot) const {
    return slot < slots_.size() && order_.linked(latest_place(slot));
  }
  bool recent(uint32_t slot) const { return clock_ - slots_[slot].clock <= window_; }
  void forget_ghost(uint32_t ghost);
  std::optional<uint32_t> evict_once(const std::function<bool(uint32_t)>& evictable, bool spare);
  std::optional<uint32_t> evict_often(const std::function<bool(uint32_t)>& evictable);

  const uint32_t capacity_;
  const uint32_t window_;
  IndexLists order_;  // the last two uses of slots and the last one of ghosts, by time
  IndexLists once_;   // slots with one use
  GhostLists ghosts_;
  std::vector<Slot> slots_;
  uint32_t clock_ = 0;
};

}  // namespace ucm::base
