// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "base/eviction.h"
#include "base/eviction_ghosts.h"

namespace ucm::base {

// What a cache of so many slots under a policy would have hit: keys only. Not thread-safe.
class ShadowCache {
 public:
  ShadowCache(std::unique_ptr<EvictionPolicy> policy, uint32_t slots);

  // A use of a block. Whether it was here; it is now.
  bool use(uint64_t fingerprint);
  void forget(uint64_t fingerprint);
  // The cache shrinks or grows to so many slots, at most as many as it was made with.
  void resize(uint32_t slots);

 private:
  void evict();

  const std::unique_ptr<EvictionPolicy> policy_;
  const uint32_t most_slots_;
  uint32_t slots_;
  FingerprintTable table_;
  std::vector<uint32_t> free_;
  uint32_t used_ = 0;  // slots that were ever given
  uint32_t held_ = 0;
};

}  // namespace ucm::base
