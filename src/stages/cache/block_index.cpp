// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/block_index.h"

#include <algorithm>

namespace ucm::stages::cache {
namespace {

// Far enough ahead that a line has arrived from memory when its turn comes.
constexpr size_t kAhead = 16;

}  // namespace

uint32_t BlockIndex::find(const BlockKey& wanted) const {
  for (size_t at = home(wanted);; at = after(at)) {
    const uint32_t cell = table_[at];
    if (cell == kEmpty) return kNone;
    if (key(cell - 1) == wanted) return cell - 1;
  }
}

void BlockIndex::find_batch(std::span<const BlockKey> keys, std::span<uint32_t> slots) const {
  const size_t count = keys.size();
  for (size_t i = 0; i < count + 2 * kAhead; ++i) {
    if (i < count) __builtin_prefetch(&table_[home(keys[i])]);
    if (i >= kAhead && i - kAhead < count) {
      const uint32_t cell = table_[home(keys[i - kAhead])];
      if (cell != kEmpty) __builtin_prefetch(&key(cell - 1));
    }
    if (i >= 2 * kAhead) slots[i - 2 * kAhead] = find(keys[i - 2 * kAhead]);
  }
}

void BlockIndex::insert(uint32_t slot) {
  size_t at = home(key(slot));
  while (table_[at] != kEmpty) at = after(at);
  table_[at] = slot + 1;
}

void BlockIndex::erase(uint32_t slot) {
  size_t hole = home(key(slot));
  while (table_[hole] != slot + 1) hole = after(hole);
  // Entries behind the hole move up unless that would put them before their home.
  for (size_t at = after(hole); table_[at] != kEmpty; at = after(at)) {
    if (distance(home(key(table_[at] - 1)), at) < distance(hole, at)) continue;
    table_[hole] = table_[at];
    hole = at;
  }
  table_[hole] = kEmpty;
}

void BlockIndex::clear() { std::fill(table_.begin(), table_.end(), kEmpty); }

}  // namespace ucm::stages::cache
