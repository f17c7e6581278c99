// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_s3fifo.h"

#include <algorithm>
#include <utility>

namespace ucm::base {

S3FifoPolicy::S3FifoPolicy(uint32_t capacity, StateArena& arena, FingerprintOf owner)
    : queues_(capacity, capacity, arena, std::move(owner)), uses_(arena.take<uint8_t>(capacity)) {}

void S3FifoPolicy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  const uint32_t key = short_fingerprint(fingerprint);
  const bool returns = queues_.ghost(key).has_value();
  if (returns) queues_.forget_ghost(key);
  uses_[slot] = 0;
  queues_.push(returns ? kMain : kSmall, slot, key);
}

void S3FifoPolicy::touch(uint32_t slot) {
  if (queues_.holds(slot) && uses_[slot] < kMostUses) ++uses_[slot];
}

// What was used after it came keeps its place, as in any queue.
void S3FifoPolicy::renew(uint32_t slot) {
  if (queues_.holds(slot) && uses_[slot] == 0) queues_.renew(slot);
}

std::optional<uint32_t> S3FifoPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  const bool small_first = queues_.size(kSmall) >= std::max(1u, queues_.resident() / 10);
  std::optional<uint32_t> victim;
  if (small_first) victim = evict_small(evictable);
  if (!victim) victim = evict_main(evictable);
  if (!victim && !small_first) victim = evict_small(evictable);
  // The small queue may just have been emptied into the main one.
  if (!victim && !small_first) victim = evict_main(evictable);
  return victim;
}

std::optional<uint32_t> S3FifoPolicy::evict_small(const std::function<bool(uint32_t)>& evictable) {
  uint32_t next = SlotLists::kNone;
  for (uint32_t slot = queues_.oldest(kSmall); slot != SlotLists::kNone; slot = next) {
    next = queues_.newer(slot);
    if (uses_[slot] >= kPromotingUses) {
      uses_[slot] = 0;
      queues_.move(kMain, slot);
    } else if (evictable(slot)) {
      queues_.leave(slot, true);
      // As many ghosts as the main queue has slots.
      const uint32_t full = queues_.full();
      queues_.trim_ghosts(queues_.fingerprint(slot), kSmall, full - std::max(1u, full / 10));
      return slot;
    }
  }
  return std::nullopt;
}

std::optional<uint32_t> S3FifoPolicy::evict_main(const std::function<bool(uint32_t)>& evictable) {
  // Each round takes one use from every slot, so what can leave does in the last one.
  for (uint8_t round = 0; round <= kMostUses; ++round) {
    uint32_t slot = queues_.oldest(kMain);
    for (uint32_t left = queues_.size(kMain); left > 0; --left) {
      const uint32_t next = queues_.newer(slot);
      if (uses_[slot] > 0) {
        --uses_[slot];
        queues_.move(kMain, slot);
      } else if (evictable(slot)) {
        queues_.leave(slot, false);
        return slot;
      }
      slot = next;
    }
  }
  return std::nullopt;
}

}  // namespace ucm::base
