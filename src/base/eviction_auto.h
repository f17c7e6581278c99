// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "base/eviction.h"
#include "base/eviction_shadow.h"

namespace ucm::base {

// Follows whichever of lru, arc and lru2 hits most on a sample of the keys: each runs a shadow
// cache of the sampled keys, as much smaller as the sample is, and each keeps the real slots in
// order, so that a change of the leader loses nothing. About 176 bytes a slot with all ghosts,
// which are there once the store is full, shadows included (a sample of 1/64; more below 65,536
// slots).
class AutoPolicy : public EvictionPolicy {
 public:
  explicit AutoPolicy(uint32_t capacity);
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

  // The name of the policy that chooses the victims now.
  std::string_view leader() const { return candidates_[leader_].name; }

 private:
  struct Candidate {
    std::string_view name;
    double worth;  // of a hit
    std::unique_ptr<EvictionPolicy> policy;
    std::unique_ptr<ShadowCache> shadow;
    double hits = 0;  // of the shadow; older ones fade
  };
  bool known(uint32_t slot) const { return slot < known_.size() && known_[slot]; }
  bool sampled(uint64_t fingerprint) const;
  void use(uint64_t fingerprint);
  void compare();

  unsigned sample_bits_ = 0;  // a key is sampled when so many low bits of its fingerprint are zero
  std::vector<Candidate> candidates_;
  size_t leader_ = 0;
  unsigned samples_ = 0;  // since the last comparison
  std::vector<uint64_t> fingerprints_;
  std::vector<bool> known_;
  uint32_t held_ = 0;
};

}  // namespace ucm::base
