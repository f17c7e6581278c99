// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction_queues.h"

namespace ucm::base {

// Adaptive replacement (Megiddo and Modha, FAST 2003): one list of slots used once, one of slots
// used more often, and a target for the size of the first that ghosts of both move. The target
// moves when a ghost comes back, after the victim left. 12 bytes a slot, and the fingerprints.
class ArcPolicy : public EvictionPolicy {
 public:
  ArcPolicy(uint32_t capacity, StateArena& arena, FingerprintOf owner = {});
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void renew(uint32_t slot) override { queues_.renew(slot); }
  void erase(uint32_t slot) override { queues_.erase(slot); }
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

 private:
  static constexpr uint16_t kOnce = 0;
  static constexpr uint16_t kOften = 1;
  void adapt(uint16_t list);
  void trim_ghosts(uint32_t fingerprint);
  std::optional<uint32_t> evict_from(uint16_t list, const std::function<bool(uint32_t)>& evictable);

  struct State {
    uint32_t target;  // wanted size of the list kOnce
  };
  TwoQueues queues_;
  State* const state_;
};

}  // namespace ucm::base
