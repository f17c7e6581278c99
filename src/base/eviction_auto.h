// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction_lru.h"
#include "base/eviction_lru2.h"
#include "base/eviction_shadow.h"

namespace ucm::base {

// Follows whichever of lru and lru2 hits more on a sample of the keys: each runs a shadow cache of
// the sampled keys, as much smaller as the sample is. The real slots are kept with all that both
// need; when the leader changes they follow bit by bit. 18 bytes a slot and the fingerprints, and
// for the shadows a sample of 1/128; more below 131,072 slots.
class AutoPolicy : public EvictionPolicy {
 public:
  AutoPolicy(uint32_t capacity, StateArena& arena, FingerprintOf owner = {});
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void renew(uint32_t slot) override { slots_.renew(slot); }
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

  // How often a slot was put into a list: the work there was.
  uint64_t moves() const { return slots_.moves(); }
  // The name of the policy that chooses the victims now.
  std::string_view leader() const {
    return slots_.order() == Lru2Policy::Order::last_use ? "lru" : "lru2";
  }

 private:
  bool sampled(uint32_t fingerprint) const {
    return sample_bits_ == 0 || fingerprint >> (32 - sample_bits_) == 0;
  }
  void use(uint32_t fingerprint);
  void compare();

  struct State {
    double hits[2];    // of the shadows of lru and lru2; older ones fade
    uint32_t samples;  // since the last comparison
    uint32_t held;
    uint32_t begun;
  };
  const unsigned sample_bits_;  // a key is sampled when so many high bits of its fingerprint are 0
  const uint32_t shadow_slots_;
  State* const state_;
  Lru2Policy slots_;
  LruPolicy lru_;
  Lru2Policy lru2_;
  ShadowCache lru_shadow_;
  ShadowCache lru2_shadow_;
};

}  // namespace ucm::base
