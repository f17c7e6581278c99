// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction.h"
#include "base/eviction_ghosts.h"
#include "base/eviction_lists.h"

namespace ucm::base {

// What policies of two queues share: the queues, the fingerprints of their slots, and ghosts that
// know which queue they left. 14 bytes a slot and 4 a ghost.
class TwoQueues {
 public:
  TwoQueues(uint32_t capacity, uint32_t ghosts, StateArena& arena);

  const SlotLists& lists() const { return lists_; }
  uint32_t size(uint16_t queue) const { return lists_.size(queue); }
  uint32_t resident() const { return lists_.size(0) + lists_.size(1); }
  // Slots in use when one last had to leave: a store may be kept below its capacity.
  uint32_t full() const { return state_->full == 0 ? capacity_ : state_->full; }
  uint32_t fingerprint(uint32_t slot) const { return fingerprints_[slot]; }
  uint32_t ghosts(uint16_t queue) const { return state_->ghosts[queue]; }

  // The queue that a ghost of the key left; it stays until `forget_ghost`.
  std::optional<uint16_t> ghost(uint32_t fingerprint) const { return table_.find(fingerprint); }
  void forget_ghost(uint32_t fingerprint);
  void push(uint16_t queue, uint32_t slot, uint32_t fingerprint);
  void move(uint16_t queue, uint32_t slot) { lists_.move_newest(queue, slot); }
  void erase(uint32_t slot);
  // The slot is a victim.
  void leave(uint32_t slot, bool remembered);
  // Near the fingerprint, so many ghosts of the queue stay.
  void trim_ghosts(uint32_t fingerprint, uint16_t queue, uint32_t limit);

 private:
  struct State {
    uint32_t full;
    uint32_t ghosts[2];
  };
  const uint32_t capacity_;
  State* const state_;
  SlotLists lists_;
  uint32_t* const fingerprints_;
  GhostTable table_;
};

}  // namespace ucm::base
