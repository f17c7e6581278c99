// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <vector>

#include "base/eviction.h"
#include "base/eviction_shadow.h"

namespace ucm::base {

// Follows whichever policy hits most on a sample of the keys: each candidate runs a shadow cache of
// the sampled keys, as much smaller as the sample is, and all order the real slots, so that a change
// of the leader loses nothing. About 135 bytes a slot with all ghosts, and 40 a sampled slot.
class AutoPolicy : public EvictionPolicy {
 public:
  explicit AutoPolicy(uint32_t capacity);
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

  std::string_view leader() const;
  uint64_t changes() const { return changes_; }

 private:
  struct Candidate {
    std::unique_ptr<EvictionPolicy> policy;
    std::unique_ptr<ShadowCache> shadow;
    double hits = 0;  // of the sample, fading
  };
  void sample(uint64_t fingerprint);
  void compare();

  const uint32_t capacity_;
  unsigned sample_bits_ = 0;  // a key is sampled when so many low bits of its fingerprint are zero
  std::vector<Candidate> candidates_;
  std::vector<uint64_t> fingerprints_;
  size_t leader_ = 0;
  uint32_t samples_ = 0;  // since the last comparison
  uint64_t changes_ = 0;
};

}  // namespace ucm::base
