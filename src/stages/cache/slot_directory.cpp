// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/slot_directory.h"

#include "ucm/layout.h"

namespace ucm::stages::cache {
namespace {

constexpr uint64_t kMagic = 0x3130525249444355ull;  // "UCDIRR01"
constexpr uint32_t kVersion = 2;
constexpr size_t kHeaderBytes = 512;
static_assert(sizeof(DirectoryHeader) <= kHeaderBytes);

size_t set_bytes(uint32_t shards) { return (size_t{shards} + 7) / 8; }

// Twice the slots keeps chains short, and no power of two is needed.
size_t cells_for(uint32_t slots) { return size_t{slots} * 2 < 16 ? 16 : size_t{slots} * 2; }

struct Offsets {
  size_t sets;
  size_t table;
  size_t order;
  size_t order_bytes;
  size_t end;
};

Offsets offsets(const SlotDirectory::Shape& shape) {
  const size_t slots = shape.slots;
  Offsets at;
  at.sets = align_up(kHeaderBytes + slots * sizeof(SlotEntry), kLine);
  at.table = align_up(at.sets + slots * set_bytes(shape.shards) * 2, kLine);
  at.order = align_up(at.table + cells_for(shape.slots) * sizeof(uint32_t), kLine);
  // The options and `fits` see to it that the policy is possible for so many slots.
  at.order_bytes = base::eviction_state_bytes(base::eviction_policy_names()[shape.policy],
                                              shape.slots, /*owner_tells=*/true)
                       .value();
  at.end = align_up(at.order + at.order_bytes, kLine);
  return at;
}

}  // namespace

size_t SlotDirectory::bytes(const Shape& shape) { return offsets(shape).end; }

SlotDirectory::SlotDirectory(std::byte* memory, const Shape& shape)
    : header_(reinterpret_cast<DirectoryHeader*>(memory)),
      entries_(reinterpret_cast<SlotEntry*>(memory + kHeaderBytes)),
      bytes_per_set_(set_bytes(shape.shards)),
      slots_(shape.slots),
      shards_(shape.shards),
      policy_(shape.policy) {
  const Offsets at = offsets(shape);
  sets_ = reinterpret_cast<uint8_t*>(memory + at.sets);
  table_ = {reinterpret_cast<uint32_t*>(memory + at.table), cells_for(slots_)};
  order_ = {memory + at.order, at.order_bytes};
}

void SlotDirectory::format(size_t slot_bytes, uint64_t layout_id) {
  header_->mutex.init();
  header_->version = kVersion;
  header_->slots = slots_;
  header_->slot_bytes = slot_bytes;
  header_->layout_id = layout_id;
  header_->shards = shards_;
  header_->mutex_bytes = sizeof(memory::RobustMutex);
  header_->policy = policy_;
  header_->order_bytes = static_cast<uint32_t>(order_.size());
  header_->free_head = slots_;  // none
  header_->magic = kMagic;
}

bool SlotDirectory::fits(const std::byte* memory, size_t bytes) {
  if (bytes < kHeaderBytes) return false;
  const auto& header = *reinterpret_cast<const DirectoryHeader*>(memory);
  const bool possible = header.magic == kMagic && header.version == kVersion &&
                        header.mutex_bytes == sizeof(memory::RobustMutex) && header.slots != 0 &&
                        header.slots < base::kTooManySlots && header.shards != 0 &&
                        header.policy < base::eviction_policy_names().size();
  if (!possible) return false;
  const Offsets at = offsets(shape_of(memory));
  return at.end <= bytes && static_cast<uint32_t>(at.order_bytes) == header.order_bytes;
}

SlotDirectory::Shape SlotDirectory::shape_of(const std::byte* memory) {
  const auto& header = *reinterpret_cast<const DirectoryHeader*>(memory);
  return {header.slots, header.shards, header.policy};
}

std::unique_ptr<base::EvictionPolicy> SlotDirectory::attach_policy() const {
  return base::attach_eviction_policy(
             policy_name(), slots_, order_,
             [entries = entries_](uint32_t slot) { return mix(entries[slot].key); })
      .value();
}

}  // namespace ucm::stages::cache
