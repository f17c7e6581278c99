// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "base/second_use.h"
#include "stages/cache/block_index.h"
#include "stages/cache/pool_memory.h"

namespace ucm::stages::cache {

enum class ShardState : uint8_t { missing, copying, copied };

// The steady clock of the machine, the same in all its processes; it wraps after 49 days.
uint32_t now_ms();

// The slots of a pool and the block each one holds. A block is indexed from `acquire` on, but only
// a `ready` one is content. A pinned slot is never evicted or reused.
//
// The same for memory of this process and for a pool that several processes share, where each call
// stands between `lock` and `unlock`: what a member that died has left behind is put in order by
// whoever comes next. Nothing here takes a lock by itself. Beside the lock, not thread-safe.
class SlotTable {
 public:
  static constexpr uint32_t kNone = BlockIndex::kNone;

  struct Keeping {
    bool retain = true;       // false: a slot is given back once it is ready and nobody pins it
    bool second_use = false;  // the same for a block that has not been here lately
    double keep_share = 0.5;  // of the slots that may be marked as kept
  };
  SlotTable(PoolMemory memory, const Keeping& keeping);
  ~SlotTable();

  void lock();
  void unlock();

  uint32_t find(const BlockKey& key) const { return index_.find(masked(key)); }
  void find_batch(std::span<const BlockKey> keys, std::span<uint32_t> slots) const;
  // Fetch what will be looked at soon into the processor's cache; no lock needed.
  void prefetch(const BlockKey& key) const { index_.prefetch(masked(key)); }
  void prefetch(uint32_t slot) const;
  // present[i] = 1 when keys[i] is ready.
  void find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) const;
  SlotState state(uint32_t slot) const { return entry(slot).state; }
  bool ready(uint32_t slot) const { return state(slot) == SlotState::ready; }

  // A slot for an absent key, `fetching` or `gathering`: a free one, or the policy's victim. kNone
  // when all are in use.
  uint32_t acquire(const BlockKey& key, SlotState state);
  void make_ready(uint32_t slot);
  void touch(uint32_t slot) {
    note_use(slot);
    policy_->touch(slot);
  }
  // No further use, but the last one so far.
  void renew(uint32_t slot) {
    note_use(slot);
    policy_->renew(slot);
  }
  void pin(uint32_t slot);
  void unpin(uint32_t slot);
  // By this process.
  uint32_t pins_here(uint32_t slot) const { return pins_[slot]; }
  // A ready slot that is kept is not evicted by any process, even when the one that asked for it is
  // gone. False: it is not ready, or there are enough of them.
  bool keep(uint32_t slot);
  void let_go(uint32_t slot);
  // Forgets the block at once; its slot is free again when the last pin is gone.
  void drop(uint32_t slot);
  // The block is not wanted any more: dropped when it is ready, doomed when it is on its way.
  void forget(const BlockKey& key);
  bool dropped(uint32_t slot) const { return state(slot) == SlotState::leaving; }
  // The stage below is being told of a ready block, which its dump has to wait for. When the member
  // that does so dies the block is dropped: nobody knows whether it is there.
  void set_writing(uint32_t slot, bool writing);
  bool writing(uint32_t slot) const { return entry(slot).writer != 0; }
  // A block that is not ready shall not become so. Dropped at once when nobody is at work on it.
  void doom(uint32_t slot);
  bool doomed(uint32_t slot) const { return entry(slot).doomed || dropped(slot); }
  // Gives the slot of a gathering block back that nobody has been at work on for so long.
  bool reclaim_abandoned(std::chrono::milliseconds age);

  // The shards of a gathering block. `claim` answers what the shard was: missing becomes copying.
  ShardState claim(uint32_t slot, uint32_t shard);
  void unclaim(uint32_t slot, uint32_t shard);
  // True: it was the last one.
  bool set_copied(uint32_t slot, uint32_t shard);
  bool all_claimed(uint32_t slot) const;
  bool copying(uint32_t slot) const;
  // A block that has been fetched for longer than `age`.
  bool overdue(uint32_t slot, std::chrono::nanoseconds age) const;
  // A gathering block that nobody is at work on now.
  bool idle(uint32_t slot) const {
    return state(slot) == SlotState::gathering && entry(slot).pinned_by == 0;
  }

  // Whether other processes work on the same pool, and those that wait for it to change.
  bool shared() const { return member_ != memory::SharedSegment::kNoMember; }
  void set_waiting(bool waiting);
  memory::SharedEvent& event() { return header().event; }
  // Puts in order what members left behind that are no longer there. True: something has changed.
  bool reap();

  BlockKey key(uint32_t slot) const { return masked(entry(slot).key); }
  std::byte* address(uint32_t slot) const { return memory_.slots->address(slot); }
  size_t slots() const { return directory_.slots(); }
  size_t used() const { return header().used; }
  size_t ready_blocks() const { return header().ready; }
  // Blocks that this table has chosen as victims.
  uint64_t evicted() const { return evicted_; }
  uint64_t kept() const { return header().kept; }
  // Blocks that this table has not let in.
  uint64_t refused() const { return refused_; }
  // How often the directory was put in order after a process died inside the lock.
  uint32_t repairs() const { return header().repairs; }
  size_t slot_bytes() const { return header().slot_bytes; }
  std::string_view policy_name() const { return directory_.policy_name(); }

  // How long a slot stays unused that a member was writing to when it died: transfers that the
  // kernel or a device had under way may still arrive.
  void set_rest(std::chrono::milliseconds age) { rest_ = age; }

 private:
  DirectoryHeader& header() const { return directory_.header(); }
  SlotEntry& entry(uint32_t slot) const { return directory_.entry(slot); }
  // From a block's key to the one in the directory, and back.
  BlockKey masked(const BlockKey& key) const {
    return {key.low ^ memory_.mask.low, key.high ^ memory_.mask.high};
  }
  uint32_t take_free();
  uint32_t evict();
  void release(uint32_t slot);
  // Nobody copies shards of a gathering block any more: what was claimed and is not there was
  // claimed by members that died.
  void settle(uint32_t slot);
  bool hopeless(uint32_t slot) const;
  bool release_rested();
  void set_state(uint32_t slot, SlotState state);
  void note_change() { changed_ = true; }
  // Of a ready slot.
  void note_use(uint32_t slot) { entry(slot).since = ++header().uses; }
  // slot_recovery.cpp
  bool reap_members(uint64_t gone);
  void repair();
  bool recount(uint32_t slot);
  void leave();

  PoolMemory memory_;
  const SlotDirectory directory_;
  BlockIndex index_;
  const std::unique_ptr<base::EvictionPolicy> policy_;
  const bool retain_;
  const uint64_t most_kept_;
  const std::unique_ptr<base::SecondUse> second_use_;  // may be null
  const unsigned member_;
  const uint64_t member_bit_;
  std::vector<uint32_t> pins_;  // of this process
  std::chrono::milliseconds rest_{60000};
  uint32_t rest_seen_ms_ = 0;
  uint32_t abandoned_seen_ms_ = 0;
  uint64_t evicted_ = 0;
  uint64_t refused_ = 0;
  bool changed_ = false;
};

}  // namespace ucm::stages::cache
