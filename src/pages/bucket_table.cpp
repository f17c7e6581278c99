// SPDX-License-Identifier: Apache-2.0
#include "pages/bucket_table.h"

#include <bit>
#include <cstring>

namespace ucm::pages {
namespace {

constexpr uint64_t kTableMagic = 0x31454C424154434Dull;  // "MCTABLE1"
constexpr int kMissTries = 4;

}  // namespace

BucketTable::BucketTable(std::byte* memory, uint64_t slots, const SharedEntry* entries)
    : header_(reinterpret_cast<Header*>(memory)),
      cells_(reinterpret_cast<std::atomic<uint32_t>*>(memory + kHeaderBytes)),
      entries_(entries),
      count_(cells_for(slots)),
      slots_(slots),
      slot_bits_(static_cast<unsigned>(std::bit_width(slots))),
      slot_mask_((uint32_t{1} << slot_bits_) - 1) {}

void BucketTable::reset(uint64_t generation, bool zeroed) {
  if (!zeroed) std::memset(static_cast<void*>(cells_), 0, count_ * 4);
  header_->magic = kTableMagic;
  header_->cells = count_;
  header_->shifts.store(0, std::memory_order_relaxed);
  header_->generation.store(generation, std::memory_order_release);
}

bool BucketTable::fits(uint64_t wanted) const {
  return header_->magic == kTableMagic && header_->cells == count_ && generation() == wanted;
}

BucketTable::Probe BucketTable::start(const BlockKey& key) const {
  // Another multiplier than the one that spreads keys over backends, so that a share of the keys
  // still fills the whole table.
  const uint64_t hash = mix(key) * 0x9E3779B97F4A7C15ull;
  Probe probe;
  __extension__ using Wide = unsigned __int128;
  probe.cell = static_cast<uint64_t>((static_cast<Wide>(hash) * count_) >> 64);
  probe.tag = static_cast<uint32_t>(key.low ^ (key.high >> 7)) << slot_bits_;
  return probe;
}

uint32_t BucketTable::next(Probe* probe, uint64_t* steps) const {
  while (*steps < count_) {
    const uint32_t cell = cells_[probe->cell].load(std::memory_order_acquire);
    if (cell == 0) break;
    probe->cell = after(probe->cell);
    ++*steps;
    const uint32_t slot = (cell & slot_mask_) - 1;
    if ((cell & ~slot_mask_) == probe->tag && slot < slots_) return slot;
  }
  return kNone;
}

uint32_t BucketTable::find_once(const BlockKey& key) const {
  Probe probe = start(key);
  uint64_t steps = 0;
  uint32_t slot;
  while ((slot = next(&probe, &steps)) != kNone) {
    if (entries_[slot].key() == key) return slot;
  }
  return kNone;
}

uint32_t BucketTable::find(const BlockKey& key) const {
  // A writer that died in the middle of a removal leaves an odd count: the tries are few.
  for (int i = 0; i < kMissTries; ++i) {
    const uint64_t before = shifts();
    const uint32_t slot = find_once(key);
    if (slot != kNone) return slot;
    if (before % 2 == 0 && shifts() == before) break;
  }
  return kNone;
}

void BucketTable::insert(const BlockKey& key, uint32_t slot) {
  const Probe probe = start(key);
  uint64_t cell = probe.cell;
  while (cells_[cell].load(std::memory_order_relaxed) != 0) cell = after(cell);
  cells_[cell].store(probe.tag | (slot + 1), std::memory_order_release);
}

void BucketTable::erase(const BlockKey& key, uint32_t slot) {
  Probe probe = start(key);
  const uint32_t wanted = probe.tag | (slot + 1);
  uint64_t hole = probe.cell;
  uint32_t cell;
  while ((cell = cells_[hole].load(std::memory_order_relaxed)) != wanted) {
    if (cell == 0) return;
    hole = after(hole);
  }
  const uint64_t count = header_->shifts.load(std::memory_order_relaxed);
  header_->shifts.store(count + 1, std::memory_order_release);
  // Later cells of the chain move up into the hole, so that no marks of removed cells pile up.
  for (uint64_t at = after(hole);; at = after(at)) {
    cell = cells_[at].load(std::memory_order_relaxed);
    if (cell == 0) break;
    const uint64_t home = start(entries_[(cell & slot_mask_) - 1].key()).cell;
    const bool reachable = hole <= at ? (home > hole && home <= at) : (home > hole || home <= at);
    if (reachable) continue;
    cells_[hole].store(cell, std::memory_order_release);
    hole = at;
  }
  cells_[hole].store(0, std::memory_order_release);
  header_->shifts.store(count + 2, std::memory_order_release);
}

}  // namespace ucm::pages
