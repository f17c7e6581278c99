// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

#include "stages/cache/slot_directory.h"

namespace ucm::stages::cache {

// Which slot holds a key: a flat open-addressing table of slot numbers (8 bytes a slot) in the
// memory of a directory, whose entries have the keys. Not thread-safe: the table's lock guards it.
class BlockIndex {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  explicit BlockIndex(const SlotDirectory& directory)
      : directory_(directory), table_(directory.table()) {}

  uint32_t find(const BlockKey& key) const;
  // slots[i] = slot of keys[i] or kNone; fetches memory ahead, for batches of any length.
  void find_batch(std::span<const BlockKey> keys, std::span<uint32_t> slots) const;
  // Fetches what a search for the key reads first.
  void prefetch(const BlockKey& key) const { __builtin_prefetch(&table_[home(key)]); }
  // The slot's entry has the key already; it must be absent here.
  void insert(uint32_t slot);
  // While the slot's entry still has its key.
  void erase(uint32_t slot);
  void clear();

 private:
  // A cell holds a slot number + 1, so that zeroed memory is an empty table.
  static constexpr uint32_t kEmpty = 0;

  const BlockKey& key(uint32_t slot) const { return directory_.entry(slot).key; }
  // Multiplied once more: the share of the keys that falls to one rank still fills the whole table.
  size_t home(const BlockKey& key) const {
    __extension__ using Wide = unsigned __int128;
    const uint64_t hash = mix(key) * 0x9E3779B97F4A7C15ull;
    return static_cast<size_t>((static_cast<Wide>(hash) * table_.size()) >> 64);
  }
  size_t after(size_t at) const { return at + 1 == table_.size() ? 0 : at + 1; }
  size_t distance(size_t from, size_t to) const {
    return to >= from ? to - from : to + table_.size() - from;
  }

  const SlotDirectory directory_;
  const std::span<uint32_t> table_;
};

}  // namespace ucm::stages::cache
