// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/eviction.h"
#include "memory/robust_mutex.h"
#include "ucm/key.h"

namespace ucm::stages::cache {

// Parts of a directory begin on a line of the processor's cache.
inline constexpr size_t kLine = 64;

// `fetching`: all of it arrives from the stage below. `gathering`: its shards arrive from dumps.
// `leaving`: forgotten, and free again when nobody keeps it any more.
enum class SlotState : uint8_t { free, fetching, gathering, ready, leaving };

// What a table knows of one slot. The state is what counts after a crash: it changes last when a
// slot comes into use and first when it goes.
struct SlotEntry {
  BlockKey key;        // of a free slot: `low` is the next free one
  uint64_t pinned_by;  // bit m: member m keeps the slot from being reused
  uint32_t since;      // steady clock in ms: when the state became fetching, gathering or leaving;
                       // ready: the number of its last use, by which `repair` orders the blocks
  SlotState state;
  uint8_t writer;    // ready, and on its way down: number of the member that sees to it, + 1
  bool doomed : 1;   // fetching, gathering: will not become ready
  bool tainted : 1;  // a member died while it wrote to it, and may have left a transfer in flight
  bool kept : 1;     // ready: not a victim
  bool refused : 1;  // ready: leaves as soon as nobody pins it
};
static_assert(sizeof(SlotEntry) == 32);

// The parts of a directory that have no slot. In a shared one everything below `mutex` is guarded
// by it, except `event`.
struct DirectoryHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t slots;
  uint64_t slot_bytes;
  uint64_t layout_id;
  uint32_t shards;
  uint32_t mutex_bytes;  // of this build: processes of another one are refused
  uint32_t policy;       // its place among the names of the eviction policies
  uint32_t order_bytes;  // that it keeps, of this build as well
  memory::SharedEvent event;
  memory::RobustMutex mutex;
  uint64_t members;  // bit m: member m has joined and not left in order
  uint64_t waiting;  // bit m: member m has rows that wait for what others do
  uint32_t fresh;    // slots from here on were never used
  uint32_t free_head;
  uint32_t used;
  uint32_t ready;
  uint32_t gathering;
  uint32_t resting;  // tainted and leaving
  uint32_t kept;
  uint32_t uses;
  uint32_t repairs;  // how often somebody died inside the lock
};

// The memory of a SlotTable: header, one entry per slot, two bits per shard of each slot, the hash
// table and what the eviction policy knows. No pointers: any process may map it anywhere. At most
// 62 bytes a slot for up to 8 shards, 2 more for each 8 more, and 160 KiB. Zeroed memory stays
// untouched until a slot is used.
class SlotDirectory {
 public:
  // What a directory is made for.
  struct Shape {
    uint32_t slots = 0;
    uint32_t shards = 0;
    uint32_t policy = 0;  // its place among the names of the eviction policies
  };
  static size_t bytes(const Shape& shape);

  SlotDirectory() = default;
  SlotDirectory(std::byte* memory, const Shape& shape);
  // Makes zeroed memory an empty directory.
  void format(size_t slot_bytes, uint64_t layout_id);
  // Whether `memory` of so many bytes holds a directory that this build can use.
  static bool fits(const std::byte* memory, size_t bytes);
  static Shape shape_of(const std::byte* memory);

  DirectoryHeader& header() const { return *header_; }
  SlotEntry& entry(uint32_t slot) const { return entries_[slot]; }
  uint32_t slots() const { return slots_; }
  uint32_t shards() const { return shards_; }
  std::span<uint32_t> table() const { return table_; }
  std::string_view policy_name() const { return base::eviction_policy_names()[header_->policy]; }
  // All that the policy knows; zeroed: nothing.
  std::span<std::byte> order() const { return order_; }
  // The policy over that memory. It asks this directory for the keys of its slots.
  std::unique_ptr<base::EvictionPolicy> attach_policy() const;
  // Shards that somebody has begun to copy, and those that were copied: bit i of byte i / 8.
  std::span<uint8_t> claimed(uint32_t slot) const {
    return {sets_ + size_t{slot} * 2 * bytes_per_set_, bytes_per_set_};
  }
  std::span<uint8_t> copied(uint32_t slot) const {
    return {sets_ + (size_t{slot} * 2 + 1) * bytes_per_set_, bytes_per_set_};
  }

 private:
  DirectoryHeader* header_ = nullptr;
  SlotEntry* entries_ = nullptr;
  uint8_t* sets_ = nullptr;
  size_t bytes_per_set_ = 0;
  std::span<uint32_t> table_;
  std::span<std::byte> order_;
  uint32_t slots_ = 0;
  uint32_t shards_ = 0;
  uint32_t policy_ = 0;
};

}  // namespace ucm::stages::cache
