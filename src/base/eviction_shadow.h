// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction.h"
#include "base/eviction_ghosts.h"

namespace ucm::base {

// What a cache of so many slots under a policy would have hit: keys only. Not thread-safe.
class ShadowCache {
 public:
  // `policy` has room for `slots` and outlives this.
  ShadowCache(uint32_t slots, EvictionPolicy& policy, StateArena& arena);

  bool holds(uint32_t fingerprint) const { return table_.find(fingerprint) != kNone; }
  // A use of a block, by its short fingerprint. Whether it was here; it is now.
  bool use(uint32_t fingerprint);
  void forget(uint32_t fingerprint);
  // Of a slot that the policy knows.
  uint32_t fingerprint(uint32_t slot) const { return table_.fingerprint(slot); }
  // The cache shrinks or grows to so many slots, at most as many as it was made with.
  void resize(uint32_t slots);

 private:
  static constexpr uint32_t kNone = FingerprintTable::kNone;
  void evict();
  void free(uint32_t slot);

  struct State {
    uint32_t missing;  // of the slots it was made with
    uint32_t given;    // slots that were ever used
    uint32_t freed;
    uint32_t held;
  };
  const uint32_t slots_;
  EvictionPolicy& policy_;
  State* const state_;
  uint32_t* const free_;
  FingerprintTable table_;
};

}  // namespace ucm::base
