// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/eviction.h"
#include "base/second_use.h"
#include "base/slot_marks.h"
#include "stages/cache/block_index.h"
#include "ucm/memory.h"

namespace ucm::stages::cache {

enum class SlotState : uint8_t { free, filling, ready };

// The slots of a pool and the block each one holds. A block is indexed from `acquire` on, but only
// a `ready` one is content. A pinned slot is never evicted or reused. Not thread-safe: the flow's
// lock guards it.
class SlotTable {
 public:
  static constexpr uint32_t kNone = BlockIndex::kNone;

  struct Keeping {
    bool retain = true;       // false: a slot is given back once it is ready and nobody pins it
    bool second_use = false;  // the same for a block that has not been here lately
    double keep_share = 0.5;  // of the slots that may be marked as kept
  };
  SlotTable(std::shared_ptr<Pool> pool, std::unique_ptr<base::EvictionPolicy> policy,
            const Keeping& keeping);

  uint32_t find(const BlockKey& key) const { return index_.find(key); }
  // present[i] = 1 when keys[i] is ready.
  void find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) const;
  bool ready(uint32_t slot) const { return state_[slot] == SlotState::ready; }

  // A slot for an absent key: a free one, or the policy's victim. kNone when all are in use.
  uint32_t acquire(const BlockKey& key);
  void make_ready(uint32_t slot);
  void touch(uint32_t slot) { policy_->touch(slot); }
  void pin(uint32_t slot) { ++pins_[slot]; }
  void unpin(uint32_t slot);
  // A ready slot that is kept is not evicted. False: it is not ready, or there are enough of them.
  bool keep(uint32_t slot) {
    return ready(slot) && retain_ && !refused_slots_[slot] && kept_.add(slot);
  }
  void let_go(uint32_t slot) { kept_.remove(slot); }
  // Forgets the block at once; its slot is free again when the last pin is gone.
  void drop(uint32_t slot);
  bool dropped(uint32_t slot) const { return dropped_[slot]; }

  const BlockKey& key(uint32_t slot) const { return index_.key(slot); }
  std::byte* address(uint32_t slot) const { return pool_->slot_address(slot); }
  size_t slots() const { return state_.size(); }
  size_t used() const { return used_; }
  size_t ready_blocks() const { return ready_blocks_; }
  uint64_t evicted() const { return evicted_; }
  uint64_t kept() const { return kept_.size(); }
  uint64_t refused() const { return refused_; }
  size_t slot_bytes() const { return pool_->slot_bytes(); }

 private:
  void release(uint32_t slot);

  const std::shared_ptr<Pool> pool_;
  const std::unique_ptr<base::EvictionPolicy> policy_;
  const bool retain_;
  const std::unique_ptr<base::SecondUse> second_use_;  // may be null
  BlockIndex index_;
  std::vector<SlotState> state_;
  std::vector<uint32_t> pins_;
  std::vector<bool> dropped_;
  std::vector<bool> refused_slots_;
  base::SlotMarks kept_;
  std::vector<Lease> leases_;
  size_t used_ = 0;
  size_t ready_blocks_ = 0;
  uint64_t evicted_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace ucm::stages::cache
