// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction_queues.h"

namespace ucm::base {

// S3-FIFO (Yang et al., SOSP 2023): new slots pass a small queue, a tenth of the slots in use; who
// was used there goes on to the main queue, who was not leaves and is remembered, so that it comes
// back to the main queue. A use only counts. 13 bytes a slot, and the fingerprints.
class S3FifoPolicy : public EvictionPolicy {
 public:
  S3FifoPolicy(uint32_t capacity, StateArena& arena, FingerprintOf owner = {});
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void renew(uint32_t slot) override;
  void erase(uint32_t slot) override { queues_.erase(slot); }
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

 private:
  static constexpr uint16_t kSmall = 0;
  static constexpr uint16_t kMain = 1;
  static constexpr uint8_t kMostUses = 3;
  // Uses in the small queue that take a slot to the main one. The paper asks for two; blocks of KV
  // are seldom used that often so soon.
  static constexpr uint8_t kPromotingUses = 1;

  std::optional<uint32_t> evict_small(const std::function<bool(uint32_t)>& evictable);
  std::optional<uint32_t> evict_main(const std::function<bool(uint32_t)>& evictable);

  TwoQueues queues_;
  uint8_t* const uses_;
};

}  // namespace ucm::base
