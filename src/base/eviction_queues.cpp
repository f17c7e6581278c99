// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_queues.h"

namespace ucm::base {

TwoQueues::TwoQueues(uint32_t capacity, uint32_t ghosts, StateArena& arena, FingerprintOf owner)
    : capacity_(capacity),
      state_(arena.take<State>(1)),
      lists_(capacity, 2, arena),
      queue_(arena.take<uint8_t>(capacity)),
      fingerprints_(capacity, std::move(owner), arena),
      table_(ghosts, arena) {}

void TwoQueues::forget_ghost(uint32_t fingerprint) {
  if (const auto queue = table_.take(fingerprint)) --state_->ghosts[*queue];
}

void TwoQueues::push(uint16_t queue, uint32_t slot, uint32_t fingerprint) {
  fingerprints_.set(slot, fingerprint);
  queue_[slot] = static_cast<uint8_t>(queue + 1);
  lists_.push_newest(queue, slot);
}

void TwoQueues::move(uint16_t queue, uint32_t slot) {
  erase(slot);
  queue_[slot] = static_cast<uint8_t>(queue + 1);
  lists_.push_newest(queue, slot);
}

void TwoQueues::renew(uint32_t slot) {
  if (holds(slot)) move(static_cast<uint16_t>(queue_[slot] - 1), slot);
}

void TwoQueues::erase(uint32_t slot) {
  if (!holds(slot)) return;
  lists_.remove(static_cast<uint16_t>(queue_[slot] - 1), slot);
  queue_[slot] = 0;
}

void TwoQueues::leave(uint32_t slot, bool remembered) {
  state_->full = resident();
  const auto queue = static_cast<uint16_t>(queue_[slot] - 1);
  erase(slot);
  if (!remembered) return;
  const uint32_t key = fingerprint(slot);
  forget_ghost(key);
  if (const auto left = table_.push(key, queue)) --state_->ghosts[*left];
  ++state_->ghosts[queue];
}

void TwoQueues::trim_ghosts(uint32_t fingerprint, uint16_t queue, uint32_t limit) {
  if (state_->ghosts[queue] <= limit) return;
  state_->ghosts[queue] -= table_.trim(fingerprint, queue, limit);
}

}  // namespace ucm::base
