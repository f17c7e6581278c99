// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/eviction_shadow.h"
#include "base/metric_registry.h"
#include "ucm/key.h"

namespace ucm {

// What a stage would hit with twice its capacity: a shadow cache under the same policy sees all
// uses of a sample of the keys, chosen by their hash (Waldspurger et al., SHARDS, FAST 2015), and
// is as much smaller as the sample is. About 200 KiB whatever the capacity. Thread-safe; only keys
// of the sample take the lock.
class CapacityShadow {
 public:
  // Counts into the stage's metrics `ucm_shadow_lookup_blocks_total` (keys of the sample that were
  // asked for) and `ucm_shadow_lookup_hit_blocks_total`.
  static std::unique_ptr<CapacityShadow> make(std::string_view policy, uint64_t capacity,
                                              base::MetricRegistry* metrics, const char* stage);

  // `prefix`: what comes after the first miss would be of no use.
  void looked_up(std::span<const BlockKey> keys, bool prefix);
  // Stored or loaded.
  void used(const BlockKey& key);
  void removed(std::span<const BlockKey> keys);

 private:
  CapacityShadow(std::unique_ptr<base::EvictionPolicy> policy, uint32_t slots, unsigned bits,
                 base::MetricRegistry* metrics, const char* stage);
  bool sampled(uint64_t fingerprint) const {
    return bits_ == 0 || fingerprint >> (64 - bits_) == 0;
  }

  const unsigned bits_;
  base::Counter& asked_;
  base::Counter& hits_;
  const std::unique_ptr<base::EvictionPolicy> policy_;
  std::vector<uint64_t> memory_;
  base::StateArena arena_;
  std::mutex mutex_;
  base::ShadowCache shadow_;
};

}  // namespace ucm
