// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_arc.h"

#include <algorithm>

namespace ucm::base {

ArcPolicy::ArcPolicy(uint32_t capacity) : full_(capacity) {}

void ArcPolicy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  if (slot >= fingerprints_.size()) fingerprints_.resize(slot + 1);
  fingerprints_[slot] = short_fingerprint(fingerprint);
  uint8_t list = kOnce;
  if (const uint32_t ghost = ghosts_.find(fingerprints_[slot]); ghost != GhostLists::kNone) {
    adapt(ghosts_.list_of(ghost));
    ghosts_.remove(ghost);
    list = kOften;
  }
  lists_.push_newest(list, slot);
  trim_ghosts();
}

void ArcPolicy::touch(uint32_t slot) {
  if (lists_.linked(slot)) lists_.move_newest(kOften, slot);
}

void ArcPolicy::erase(uint32_t slot) {
  if (lists_.linked(slot)) lists_.remove(slot);
}

void ArcPolicy::displace(uint32_t slot) {
  if (!lists_.linked(slot)) return;
  full_ = resident();
  target_ = std::min(target_, full_);
  const uint8_t list = lists_.list_of(slot);
  lists_.remove(slot);
  ghosts_.push(list, fingerprints_[slot]);
  trim_ghosts();
}

std::optional<uint32_t> ArcPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  const uint8_t first = lists_.size(kOnce) > target_ ? kOnce : kOften;
  std::optional<uint32_t> victim = evict_from(first, evictable);
  return victim ? victim : evict_from(kOften - first, evictable);
}

std::optional<uint32_t> ArcPolicy::evict_from(uint8_t list,
                                              const std::function<bool(uint32_t)>& evictable) {
  for (uint32_t slot = lists_.oldest(list); slot != IndexLists::kNone; slot = lists_.newer(slot)) {
    if (!evictable(slot)) continue;
    displace(slot);
    return slot;
  }
  return std::nullopt;
}

// A block that comes back soon after it left shows which of the lists was too short.
void ArcPolicy::adapt(uint8_t list) {
  const uint32_t own = ghosts_.size(list);
  const uint32_t other = ghosts_.size(kOften - list);
  const uint32_t step = std::max(1u, other / own);
  if (list == kOnce) {
    target_ = std::min(full_, target_ + step);
  } else {
    target_ -= std::min(target_, step);
  }
}

// Each list together with its ghosts describes the past of one cache of this size, both of two.
void ArcPolicy::trim_ghosts() {
  while (ghosts_.size(kOnce) > 0 && lists_.size(kOnce) + ghosts_.size(kOnce) > full_) {
    ghosts_.pop_oldest(kOnce);
  }
  const uint64_t both = 2ull * full_;
  while (ghosts_.size(kOften) > 0 && resident() + ghosts_.size() > both) {
    ghosts_.pop_oldest(kOften);
  }
}

}  // namespace ucm::base
