// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/eviction.h"
#include "base/slot_marks.h"
#include "ucm/key.h"

namespace ucm {

// The keys a Fake stage remembers, with the shards that have arrived. Bounded: a new key displaces
// the one the policy picks. Thread-safe.
class FakeIndex {
 public:
  // `pin_limit`: the share of the capacity that may be pinned.
  FakeIndex(std::unique_ptr<base::EvictionPolicy> policy, uint32_t capacity, uint32_t shards,
            double pin_limit);

  // Whether all shards of the key are here. `touch` counts it as a use.
  bool present(const BlockKey& key, bool touch);
  // One shard has arrived. The answer is how many blocks left for it: 0 or 1. Not remembered when
  // all others are pinned.
  uint32_t add(const BlockKey& key, uint32_t shard);
  void renew(const BlockKey& key);
  void remove(const BlockKey& key);
  // False: absent, or too many are pinned.
  bool pin(const BlockKey& key);
  void unpin(const BlockKey& key);
  size_t pinned() const;
  size_t size() const;

 private:
  struct Entry {
    uint32_t slot = 0;
    uint32_t missing = 0;       // shards that have not arrived
    std::vector<bool> arrived;  // empty for blocks of one shard
  };
  std::optional<uint32_t> take_slot(uint32_t* evicted);

  mutable std::mutex mutex_;
  const std::unique_ptr<base::EvictionPolicy> policy_;
  const uint32_t shards_;
  std::unordered_map<BlockKey, Entry> entries_;
  std::vector<BlockKey> slot_keys_;
  std::vector<uint32_t> free_slots_;
  base::SlotMarks kept_;
};

}  // namespace ucm
