// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "pages/index_entry.h"
#include "ucm/key.h"

namespace ucm::pages {

// key -> slot candidates, derived from the index: open addressing with linear probing over 32-bit
// cells of (tag, slot + 1), 5 bytes per slot. It lives in shared memory: one thread changes it,
// any number of threads and processes look. A candidate counts only when the entry's key is equal,
// so a damaged table can hide blocks but never show a wrong one.
class BucketTable {
 public:
  static constexpr size_t kHeaderBytes = 4096;
  static uint64_t cells_for(uint64_t slots) { return slots < 52 ? 64 : slots + slots / 4; }
  static uint64_t bytes_for(uint64_t slots) { return kHeaderBytes + cells_for(slots) * 4; }

  BucketTable() = default;
  // `memory` has bytes_for(slots) bytes and outlives the table.
  BucketTable(std::byte* memory, uint64_t slots, const SharedEntry* entries);

  // Empties it for a new generation; `zeroed` memory is empty already. Writer only.
  void reset(uint64_t generation, bool zeroed = false);
  uint64_t generation() const { return header_->generation.load(std::memory_order_acquire); }
  bool fits(uint64_t generation) const;

  struct Probe {
    uint64_t cell = 0;
    uint32_t tag = 0;
  };
  Probe start(const BlockKey& key) const;
  void prefetch(const Probe& probe) const { __builtin_prefetch(&cells_[probe.cell]); }
  // The next candidate slot from `probe` on, which moves behind it; kNone at the end of the chain.
  uint32_t next(Probe* probe, uint64_t* steps) const;

  // The slot whose entry holds `key`, or kNone.
  uint32_t find(const BlockKey& key) const;
  // Changes whenever a removal has moved cells: a miss seen across a change has to be looked at
  // again.
  uint64_t shifts() const { return header_->shifts.load(std::memory_order_acquire); }

  void insert(const BlockKey& key, uint32_t slot);
  // Call while the entry of `slot` still holds `key`.
  void erase(const BlockKey& key, uint32_t slot);

  static constexpr uint32_t kNone = 0xFFFFFFFF;

 private:
  struct Header {
    uint64_t magic;
    std::atomic<uint64_t> generation;
    uint64_t cells;
    std::atomic<uint64_t> shifts;
  };
  uint32_t find_once(const BlockKey& key) const;
  uint64_t after(uint64_t cell) const { return cell + 1 == count_ ? 0 : cell + 1; }

  Header* header_ = nullptr;
  std::atomic<uint32_t>* cells_ = nullptr;
  const SharedEntry* entries_ = nullptr;
  uint64_t count_ = 0;
  uint64_t slots_ = 0;
  unsigned slot_bits_ = 0;
  uint32_t slot_mask_ = 0;
};

}  // namespace ucm::pages
