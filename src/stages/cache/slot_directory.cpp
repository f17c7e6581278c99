// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/slot_directory.h"

#include "ucm/layout.h"

namespace ucm::stages::cache {
namespace {

constexpr uint64_t kMagic = 0x3130525249444355ull;  // "UCDIRR01"
constexpr uint32_t kVersion = 1;
constexpr size_t kHeaderBytes = 512;
static_assert(sizeof(DirectoryHeader) <= kHeaderBytes);

size_t words_for(uint32_t shards) { return (size_t{shards} + 63) / 64; }

// Twice the slots keeps chains short, and no power of two is needed.
size_t cells_for(uint32_t slots) { return size_t{slots} * 2 < 16 ? 16 : size_t{slots} * 2; }

struct Offsets {
  size_t words;
  size_t table;
  size_t order;
  size_t end;
};

size_t order_bytes(uint32_t slots) {
  base::StateArena counted(nullptr);
  const base::LruPolicy policy(slots, counted);
  return counted.used();
}

Offsets offsets(uint32_t slots, uint32_t shards) {
  Offsets at;
  at.words = align_up(kHeaderBytes + slots * sizeof(SlotEntry), kLine);
  at.table = align_up(at.words + slots * words_for(shards) * 2 * sizeof(uint64_t), kLine);
  at.order = align_up(at.table + cells_for(slots) * sizeof(uint32_t), kLine);
  at.end = align_up(at.order + order_bytes(slots), kLine);
  return at;
}

}  // namespace

size_t SlotDirectory::bytes(uint32_t slots, uint32_t shards) { return offsets(slots, shards).end; }

SlotDirectory::SlotDirectory(std::byte* memory, uint32_t slots, uint32_t shards)
    : header_(reinterpret_cast<DirectoryHeader*>(memory)),
      entries_(reinterpret_cast<SlotEntry*>(memory + kHeaderBytes)),
      words_per_set_(words_for(shards)),
      slots_(slots),
      shards_(shards) {
  const Offsets at = offsets(slots, shards);
  words_ = reinterpret_cast<uint64_t*>(memory + at.words);
  table_ = {reinterpret_cast<uint32_t*>(memory + at.table), cells_for(slots)};
  order_ = memory + at.order;
}

void SlotDirectory::format(size_t slot_bytes, uint64_t layout_id) {
  header_->mutex.init();
  header_->version = kVersion;
  header_->slots = slots_;
  header_->slot_bytes = slot_bytes;
  header_->layout_id = layout_id;
  header_->shards = shards_;
  header_->mutex_bytes = sizeof(memory::RobustMutex);
  header_->free_head = slots_;  // none
  header_->magic = kMagic;
}

bool SlotDirectory::fits(const std::byte* memory, size_t bytes) {
  if (bytes < kHeaderBytes) return false;
  const auto& header = *reinterpret_cast<const DirectoryHeader*>(memory);
  return header.magic == kMagic && header.version == kVersion &&
         header.mutex_bytes == sizeof(memory::RobustMutex) && header.slots != 0 &&
         header.shards != 0 && SlotDirectory::bytes(header.slots, header.shards) <= bytes;
}

}  // namespace ucm::stages::cache
