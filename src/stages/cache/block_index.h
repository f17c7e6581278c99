// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ucm/key.h"

namespace ucm::stages::cache {

// Which slot holds a key: a flat open-addressing table of slot numbers (8 to 16 bytes a slot) over
// the array of the slots' own keys (16 bytes). Not thread-safe: the stage's lock guards it.
class BlockIndex {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  explicit BlockIndex(uint32_t slots);

  uint32_t find(const BlockKey& key) const;
  // slots[i] = slot of keys[i] or kNone; fetches memory ahead, for batches of any length.
  void find_batch(std::span<const BlockKey> keys, std::span<uint32_t> slots) const;
  // `key` must be absent and `slot` unused.
  void insert(const BlockKey& key, uint32_t slot);
  void erase(uint32_t slot);

  const BlockKey& key(uint32_t slot) const { return keys_[slot]; }
  size_t size() const { return size_; }
  size_t memory_bytes() const {
    return table_.size() * sizeof(uint32_t) + keys_.size() * sizeof(BlockKey);
  }

 private:
  size_t home(const BlockKey& key) const { return mix(key) & mask_; }

  std::vector<uint32_t> table_;
  std::vector<BlockKey> keys_;
  size_t mask_;
  size_t size_ = 0;
};

}  // namespace ucm::stages::cache
