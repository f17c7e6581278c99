// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lru.h"

namespace ucm::base {

LruPolicy::LruPolicy(uint32_t capacity)
    : links_(capacity + 1, Link{kUnlinked, kUnlinked}), sentinel_(capacity) {
  links_[sentinel_] = {sentinel_, sentinel_};
}

void LruPolicy::insert(uint32_t slot, uint64_t) {
  if (linked(slot)) unlink(slot);
  link_newest(slot);
}

void LruPolicy::touch(uint32_t slot) {
  if (!linked(slot)) return;
  unlink(slot);
  link_newest(slot);
}

void LruPolicy::erase(uint32_t slot) {
  if (linked(slot)) unlink(slot);
}

std::optional<uint32_t> LruPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  for (uint32_t slot = links_[sentinel_].newer; slot != sentinel_; slot = links_[slot].newer) {
    if (!evictable(slot)) continue;
    unlink(slot);
    return slot;
  }
  return std::nullopt;
}

void LruPolicy::unlink(uint32_t slot) {
  const Link link = links_[slot];
  links_[link.older].newer = link.newer;
  links_[link.newer].older = link.older;
  links_[slot] = {kUnlinked, kUnlinked};
}

void LruPolicy::link_newest(uint32_t slot) {
  const uint32_t newest = links_[sentinel_].older;
  links_[slot] = {newest, sentinel_};
  links_[newest].newer = slot;
  links_[sentinel_].older = slot;
}

}  // namespace ucm::base
