// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction.h"
#include "base/eviction_fingerprints.h"
#include "base/eviction_ghosts.h"
#include "base/eviction_lists.h"

namespace ucm::base {

// What policies of two queues share: the queues, the fingerprints of their slots, and ghosts that
// know which queue they left. 9 bytes a slot, 3 a ghost, and the fingerprints.
class TwoQueues {
 public:
  TwoQueues(uint32_t capacity, uint32_t ghosts, StateArena& arena, FingerprintOf owner);

  bool holds(uint32_t slot) const { return queue_[slot] != 0; }
  // kNone at the end.
  uint32_t oldest(uint16_t queue) const { return lists_.oldest(queue); }
  uint32_t newer(uint32_t slot) const { return lists_.newer(slot); }
  uint32_t size(uint16_t queue) const { return lists_.size(queue); }
  uint32_t resident() const { return lists_.size(0) + lists_.size(1); }
  // Slots in use when one last had to leave: a store may be kept below its capacity.
  uint32_t full() const { return state_->full == 0 ? capacity_ : state_->full; }
  uint32_t fingerprint(uint32_t slot) const { return fingerprints_.at(slot); }
  uint32_t ghosts(uint16_t queue) const { return state_->ghosts[queue]; }

  // The queue that a ghost of the key left; it stays until `forget_ghost`.
  std::optional<uint16_t> ghost(uint32_t fingerprint) const { return table_.find(fingerprint); }
  void forget_ghost(uint32_t fingerprint);
  void push(uint16_t queue, uint32_t slot, uint32_t fingerprint);
  // To the newest end of the queue.
  void move(uint16_t queue, uint32_t slot);
  // The same in the queue it is in, if any.
  void renew(uint32_t slot);
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
  uint8_t* const queue_;  // plus one: zero stands for none
  SlotFingerprints fingerprints_;
  GhostTable table_;
};

}  // namespace ucm::base
