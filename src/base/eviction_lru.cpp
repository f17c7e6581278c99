// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lru.h"

namespace ucm::base {

void LruPolicy::insert(uint32_t slot, uint64_t) {
  erase(slot);
  lists_.push_newest(0, slot);
}

void LruPolicy::touch(uint32_t slot) {
  if (!lists_.linked(slot)) return;
  lists_.remove(0, slot);
  lists_.push_newest(0, slot);
}

void LruPolicy::erase(uint32_t slot) {
  if (lists_.linked(slot)) lists_.remove(0, slot);
}

std::optional<uint32_t> LruPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  for (uint32_t slot = lists_.oldest(0); slot != SlotLists::kNone; slot = lists_.newer(slot)) {
    if (!evictable(slot)) continue;
    lists_.remove(0, slot);
    return slot;
  }
  return std::nullopt;
}

}  // namespace ucm::base
