// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/eviction.h"

namespace ucm::base {

// Least recently used: an intrusive doubly linked list over slot numbers, 8 bytes a slot.
class LruPolicy : public EvictionPolicy {
 public:
  explicit LruPolicy(uint32_t capacity);
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

 private:
  struct Link {
    uint32_t older;
    uint32_t newer;
  };
  bool linked(uint32_t slot) const { return links_[slot].older != kUnlinked; }
  void unlink(uint32_t slot);
  void link_newest(uint32_t slot);

  static constexpr uint32_t kUnlinked = 0xFFFFFFFF;
  // links_[capacity] is the ring's sentinel: its `newer` is the oldest slot, its `older` the
  // newest.
  std::vector<Link> links_;
  const uint32_t sentinel_;
};

}  // namespace ucm::base
