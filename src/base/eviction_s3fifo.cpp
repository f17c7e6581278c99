// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_s3fifo.h"

#include <algorithm>

namespace ucm::base {

S3FifoPolicy::S3FifoPolicy(uint32_t capacity) : full_(capacity) {}

void S3FifoPolicy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  if (slot >= uses_.size()) {
    uses_.resize(slot + 1);
    fingerprints_.resize(slot + 1);
  }
  fingerprints_[slot] = short_fingerprint(fingerprint);
  uses_[slot] = 0;
  const uint32_t ghost = ghosts_.find(fingerprints_[slot]);
  if (ghost != GhostLists::kNone) ghosts_.remove(ghost);
  lists_.push_newest(ghost == GhostLists::kNone ? kSmall : kMain, slot);
}

void S3FifoPolicy::touch(uint32_t slot) {
  if (lists_.linked(slot) && uses_[slot] < kMostUses) ++uses_[slot];
}

void S3FifoPolicy::erase(uint32_t slot) {
  if (lists_.linked(slot)) lists_.remove(slot);
}

void S3FifoPolicy::displace(uint32_t slot) {
  if (!lists_.linked(slot)) return;
  full_ = resident();
  const bool remembered = lists_.list_of(slot) == kSmall;
  lists_.remove(slot);
  if (remembered) ghosts_.push(kSmall, fingerprints_[slot]);
  // As many ghosts as the main queue has slots.
  while (ghosts_.size() > full_ - small_share()) ghosts_.pop_oldest(kSmall);
}

std::optional<uint32_t> S3FifoPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  const bool small_first = lists_.size(kSmall) >= std::max(1u, resident() / 10);
  std::optional<uint32_t> victim;
  if (small_first) victim = evict_small(evictable);
  if (!victim) victim = evict_main(evictable);
  if (!victim && !small_first) victim = evict_small(evictable);
  // The small queue may just have been emptied into the main one.
  if (!victim && !small_first) victim = evict_main(evictable);
  return victim;
}

std::optional<uint32_t> S3FifoPolicy::evict_small(const std::function<bool(uint32_t)>& evictable) {
  uint32_t next = IndexLists::kNone;
  for (uint32_t slot = lists_.oldest(kSmall); slot != IndexLists::kNone; slot = next) {
    next = lists_.newer(slot);
    if (uses_[slot] >= kPromotingUses) {
      uses_[slot] = 0;
      lists_.move_newest(kMain, slot);
    } else if (evictable(slot)) {
      displace(slot);
      return slot;
    }
  }
  return std::nullopt;
}

std::optional<uint32_t> S3FifoPolicy::evict_main(const std::function<bool(uint32_t)>& evictable) {
  // Each round takes one use from every slot, so what can leave does in the last one.
  for (uint8_t round = 0; round <= kMostUses; ++round) {
    uint32_t slot = lists_.oldest(kMain);
    for (uint32_t left = lists_.size(kMain); left > 0; --left) {
      const uint32_t next = lists_.newer(slot);
      if (uses_[slot] > 0) {
        --uses_[slot];
        lists_.move_newest(kMain, slot);
      } else if (evictable(slot)) {
        displace(slot);
        return slot;
      }
      slot = next;
    }
  }
  return std::nullopt;
}

}  // namespace ucm::base
