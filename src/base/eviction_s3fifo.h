// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/eviction.h"
#include "base/eviction_ghosts.h"

namespace ucm::base {

// S3-FIFO (Yang et al., SOSP 2023): new slots pass a small queue, a tenth of the slots in use; who
// was used there goes on to the main queue, who was not leaves and is remembered, so that it comes
// back to the main queue. A use only counts. 14 bytes a slot and at most 23 in ghosts.
class S3FifoPolicy : public EvictionPolicy {
 public:
  explicit S3FifoPolicy(uint32_t capacity);
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  void displace(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

 private:
  static constexpr uint8_t kSmall = 0;
  static constexpr uint8_t kMain = 1;
  static constexpr uint8_t kMostUses = 3;
  // Uses in the small queue that take a slot to the main one. The paper asks for two; blocks of KV
  // are seldom used that often so soon.
  static constexpr uint8_t kPromotingUses = 1;

  uint32_t resident() const { return lists_.size(kSmall) + lists_.size(kMain); }
  uint32_t small_share() const { return full_ / 10 > 0 ? full_ / 10 : 1; }
  std::optional<uint32_t> evict_small(const std::function<bool(uint32_t)>& evictable);
  std::optional<uint32_t> evict_main(const std::function<bool(uint32_t)>& evictable);

  IndexLists lists_;
  GhostLists ghosts_;
  std::vector<uint32_t> fingerprints_;
  std::vector<uint8_t> uses_;
  uint32_t full_;  // slots in use when it last had to evict
};

}  // namespace ucm::base
