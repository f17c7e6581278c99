// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>

#include "base/checksum.h"
#include "ucm/key.h"

namespace ucm::pages {

// One block in the index, a cache line. The place in the file is the slot number; an entry all of
// zeros is a free slot. `use` is outside the check: the writer stamps it while readers look.
struct IndexEntry {
  BlockKey key;
  uint32_t slot = 0;
  uint32_t length = 0;  // payload bytes
  uint64_t layout_id = 0;
  base::Digest digest;    // XXH3-128 of the payload, see payload_digest
  uint64_t sequence = 0;  // nanoseconds since 1970 when published, always rising; 0 = free
  uint32_t use = 0;       // when it was last used, in units of kUseUnitNs since kUseEpochNs
  uint32_t check = 0;     // entry_check of the first 56 bytes

  friend bool operator==(const IndexEntry& a, const IndexEntry& b) {
    return std::memcmp(&a, &b, kCheckedBytes) == 0 && a.check == b.check;
  }
  static constexpr size_t kCheckedBytes = 56;
};
static_assert(sizeof(IndexEntry) == 64);

inline constexpr uint64_t kUseEpochNs = 1700000000ull * 1000000000ull;
inline constexpr uint64_t kUseUnitNs = 1000000000ull;

inline uint32_t use_stamp(uint64_t now_ns) {
  return now_ns > kUseEpochNs ? static_cast<uint32_t>((now_ns - kUseEpochNs) / kUseUnitNs) : 0;
}

inline uint64_t payload_seed(const BlockKey& key, uint64_t store_seed) {
  return mix(key) ^ store_seed;
}

// The digest depends on the key and the store, so bytes in a wrong place never fit.
inline base::Digest payload_digest(const void* data, size_t bytes, const BlockKey& key,
                                   uint64_t store_seed) {
  return base::digest_128(data, bytes, payload_seed(key, store_seed));
}

inline uint32_t entry_check(const IndexEntry& entry, uint64_t store_seed) {
  return static_cast<uint32_t>(
      base::digest_64(&entry, IndexEntry::kCheckedBytes, store_seed ^ entry.slot));
}

// An id of 0 stands for any layout.
inline bool layouts_fit(uint64_t stored, uint64_t wanted) {
  return stored == wanted || stored == 0 || wanted == 0;
}

inline bool entry_valid(const IndexEntry& entry, uint32_t slot, uint64_t store_seed) {
  return entry.sequence != 0 && entry.slot == slot && entry.check == entry_check(entry, store_seed);
}

// An entry in mapped memory that one process changes while others look. Readers take a copy and
// trust it only when its check fits, which also finds copies torn by a change.
class SharedEntry {
 public:
  IndexEntry load() const {
    uint64_t words[kWords];
    for (size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_acquire);
    IndexEntry entry;
    std::memcpy(static_cast<void*>(&entry), words, sizeof entry);
    return entry;
  }
  void store(const IndexEntry& entry) {
    uint64_t words[kWords];
    std::memcpy(words, &entry, sizeof words);
    for (size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_release);
  }
  // Only the last word changes, and only the writer writes it.
  void stamp_use(uint32_t use) {
    const uint64_t last = words_[kWords - 1].load(std::memory_order_relaxed);
    words_[kWords - 1].store((last & 0xFFFFFFFF00000000ull) | use, std::memory_order_relaxed);
  }
  BlockKey key() const {
    return {words_[0].load(std::memory_order_relaxed), words_[1].load(std::memory_order_relaxed)};
  }

 private:
  static constexpr size_t kWords = 8;
  std::atomic<uint64_t> words_[kWords];
};
static_assert(sizeof(SharedEntry) == sizeof(IndexEntry));
static_assert(std::atomic<uint64_t>::is_always_lock_free);

}  // namespace ucm::pages
