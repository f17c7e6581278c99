// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/eviction.h"
#include "base/eviction_ghosts.h"

namespace ucm::base {

// Adaptive replacement (Megiddo and Modha, FAST 2003): one list of slots used once, one of slots
// used more often, and a target for the size of the first that ghosts of both move. The target
// moves when a ghost comes back, after the victim left. 13 bytes a slot and at most 50 in ghosts.
class ArcPolicy : public EvictionPolicy {
 public:
  explicit ArcPolicy(uint32_t capacity);
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  void displace(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

 private:
  static constexpr uint8_t kOnce = 0;
  static constexpr uint8_t kOften = 1;
  uint32_t resident() const { return lists_.size(kOnce) + lists_.size(kOften); }
  void adapt(uint8_t list);
  void trim_ghosts();
  std::optional<uint32_t> evict_from(uint8_t list, const std::function<bool(uint32_t)>& evictable);

  IndexLists lists_;
  GhostLists ghosts_;
  std::vector<uint32_t> fingerprints_;
  uint32_t full_;        // slots in use when it last had to evict
  uint32_t target_ = 0;  // wanted size of the list kOnce
};

}  // namespace ucm::base
