// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/eviction_lists.h"

namespace ucm::base {

// Half of a fingerprint is enough to recognise a key: with a million of them one answer in four
// thousand is wrong, and the price of a wrong one is a block kept a little longer.
inline uint32_t short_fingerprint(uint64_t fingerprint) {
  return static_cast<uint32_t>(fingerprint ^ (fingerprint >> 32));
}

// Finds a small number by the fingerprint it was added with. 12 bytes a number, O(1) amortised.
class FingerprintTable {
 public:
  static constexpr uint32_t kNone = IndexLists::kNone;

  uint32_t find(uint32_t fingerprint) const;
  // The number must not be in the table.
  void add(uint32_t index, uint32_t fingerprint);
  // The number must be in the table.
  void remove(uint32_t index);

 private:
  uint32_t& head(uint32_t fingerprint) { return heads_[bucket(fingerprint)]; }
  size_t bucket(uint32_t fingerprint) const {
    return (fingerprint * 0x9E3779B97F4A7C15ull) >> shift_;
  }
  void grow();

  struct Entry {
    uint32_t fingerprint = 0;
    uint32_t next = kNone;  // in its bucket
  };
  std::vector<Entry> entries_;
  std::vector<uint32_t> heads_ = {kNone, kNone};
  unsigned shift_ = 63;
  size_t count_ = 0;
};

// Fingerprints of keys that left, in up to two lists ordered by when they left. 25 bytes a ghost,
// for as many as were ever there at once.
class GhostLists {
 public:
  static constexpr uint32_t kNone = IndexLists::kNone;

  uint32_t size(uint8_t list) const { return lists_.size(list); }
  uint32_t size() const { return lists_.size(0) + lists_.size(1); }
  // kNone when there is no such ghost.
  uint32_t find(uint32_t fingerprint) const { return table_.find(fingerprint); }
  uint8_t list_of(uint32_t index) const { return lists_.list_of(index); }
  // kNone when the list is empty.
  uint32_t oldest(uint8_t list) const { return lists_.oldest(list); }
  // The ghost's number; numbers are used again. A ghost of the same fingerprint is replaced.
  uint32_t push(uint8_t list, uint32_t fingerprint);
  void pop_oldest(uint8_t list) { remove(lists_.oldest(list)); }
  void remove(uint32_t index);

 private:
  IndexLists lists_;
  FingerprintTable table_;
  std::vector<uint32_t> free_;
  uint32_t used_ = 0;  // numbers that were ever given
};

}  // namespace ucm::base
