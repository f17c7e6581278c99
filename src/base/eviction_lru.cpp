// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lru.h"

#include <algorithm>

namespace ucm::base {

LruPolicy::LruPolicy(uint32_t capacity)
    : own_(size_t{capacity} + 1), links_(own_), sentinel_(capacity) {
  clear();
}

LruPolicy::LruPolicy(std::span<Link> links)
    : links_(links), sentinel_(static_cast<uint32_t>(links.size() - 1)) {}

void LruPolicy::clear() {
  std::fill(links_.begin(), links_.end(), Link{kUnlinked, kUnlinked});
  links_[sentinel_] = {sentinel_, sentinel_};
}

std::vector<uint32_t> LruPolicy::readable_order() const {
  std::vector<uint32_t> order;
  std::vector<bool> seen(links_.size());
  const auto take = [&](uint32_t slot) {
    if (slot >= sentinel_ || seen[slot]) return false;
    seen[slot] = true;
    order.push_back(slot);
    return true;
  };
  uint32_t slot = links_[sentinel_].newer;
  while (take(slot)) slot = links_[slot].newer;
  if (slot == sentinel_) return order;
  const auto half = static_cast<ptrdiff_t>(order.size());
  for (slot = links_[sentinel_].older; take(slot);) slot = links_[slot].older;
  std::reverse(order.begin() + half, order.end());
  return order;
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
