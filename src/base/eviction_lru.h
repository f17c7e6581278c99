// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "base/eviction.h"

namespace ucm::base {

// Least recently used: an intrusive doubly linked list over slot numbers, 8 bytes a slot. The links
// may lie in memory that processes share: a policy object is then each one's view of them.
class LruPolicy : public EvictionPolicy {
 public:
  struct Link {
    uint32_t older;
    uint32_t newer;
  };

  explicit LruPolicy(uint32_t capacity);
  // Over capacity + 1 links that outlive it, as they are; `clear` makes fresh ones an empty list.
  explicit LruPolicy(std::span<Link> links);

  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

  void clear();
  // The slots, oldest first, that can still be read after a process died while it changed a link:
  // from both ends up to where the list is broken.
  std::vector<uint32_t> readable_order() const;

 private:
  static constexpr uint32_t kUnlinked = 0xFFFFFFFF;

  bool linked(uint32_t slot) const { return links_[slot].older != kUnlinked; }
  void unlink(uint32_t slot);
  void link_newest(uint32_t slot);

  std::vector<Link> own_;
  // links_[capacity] is the ring's sentinel: its `newer` is the oldest slot, its `older` the
  // newest.
  const std::span<Link> links_;
  const uint32_t sentinel_;
};

}  // namespace ucm::base
