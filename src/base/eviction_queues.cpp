// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_queues.h"

namespace ucm::base {

TwoQueues::TwoQueues(uint32_t capacity, uint32_t ghosts, StateArena& arena)
    : capacity_(capacity),
      state_(arena.take<State>(1)),
      lists_(capacity, 2, arena),
      fingerprints_(arena.take<uint32_t>(capacity)),
      table_(ghosts, arena) {}

void TwoQueues::forget_ghost(uint32_t fingerprint) {
  if (const auto queue = table_.take(fingerprint)) --state_->ghosts[*queue];
}

void TwoQueues::push(uint16_t queue, uint32_t slot, uint32_t fingerprint) {
  fingerprints_[slot] = fingerprint;
  lists_.push_newest(queue, slot);
}

void TwoQueues::erase(uint32_t slot) {
  if (lists_.linked(slot)) lists_.remove(slot);
}

void TwoQueues::leave(uint32_t slot, bool remembered) {
  state_->full = resident();
  const uint16_t queue = lists_.list_of(slot);
  lists_.remove(slot);
  if (!remembered) return;
  forget_ghost(fingerprints_[slot]);
  if (const auto left = table_.push(fingerprints_[slot], queue)) --state_->ghosts[*left];
  ++state_->ghosts[queue];
}

void TwoQueues::trim_ghosts(uint32_t fingerprint, uint16_t queue, uint32_t limit) {
  if (state_->ghosts[queue] <= limit) return;
  state_->ghosts[queue] -= table_.trim(fingerprint, queue, limit);
}

}  // namespace ucm::base
