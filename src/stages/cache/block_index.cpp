// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/block_index.h"

#include <algorithm>
#include <bit>

namespace ucm::stages::cache {
namespace {

// Far enough ahead that a line has arrived from memory when its turn comes.
constexpr size_t kAhead = 16;

}  // namespace

BlockIndex::BlockIndex(uint32_t slots)
    : table_(std::bit_ceil<size_t>(std::max<size_t>(16, size_t{slots} * 2)), kNone),
      keys_(slots),
      mask_(table_.size() - 1) {}

uint32_t BlockIndex::find(const BlockKey& key) const {
  for (size_t at = home(key);; at = (at + 1) & mask_) {
    const uint32_t slot = table_[at];
    if (slot == kNone || keys_[slot] == key) return slot;
  }
}

void BlockIndex::find_batch(std::span<const BlockKey> keys, std::span<uint32_t> slots) const {
  const size_t count = keys.size();
  for (size_t i = 0; i < count + 2 * kAhead; ++i) {
    if (i < count) __builtin_prefetch(&table_[home(keys[i])]);
    if (i >= kAhead && i - kAhead < count) {
      const uint32_t slot = table_[home(keys[i - kAhead])];
      if (slot != kNone) __builtin_prefetch(&keys_[slot]);
    }
    if (i >= 2 * kAhead) slots[i - 2 * kAhead] = find(keys[i - 2 * kAhead]);
  }
}

void BlockIndex::insert(const BlockKey& key, uint32_t slot) {
  size_t at = home(key);
  while (table_[at] != kNone) at = (at + 1) & mask_;
  table_[at] = slot;
  keys_[slot] = key;
  ++size_;
}

void BlockIndex::erase(uint32_t slot) {
  size_t hole = home(keys_[slot]);
  while (table_[hole] != slot) hole = (hole + 1) & mask_;
  // Entries behind the hole move up unless that would put them before their home.
  for (size_t at = (hole + 1) & mask_; table_[at] != kNone; at = (at + 1) & mask_) {
    const size_t distance_home = (at - home(keys_[table_[at]])) & mask_;
    const size_t distance_hole = (at - hole) & mask_;
    if (distance_home < distance_hole) continue;
    table_[hole] = table_[at];
    hole = at;
  }
  table_[hole] = kNone;
  --size_;
}

}  // namespace ucm::stages::cache
