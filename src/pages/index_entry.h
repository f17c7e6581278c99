// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/checksum.h"
#include "ucm/key.h"

namespace ucm::pages {

// One block of a store. In the index it is packed into 40 bytes: its slot is its place there.
struct IndexEntry {
  BlockKey key;
  uint32_t slot = 0;
  uint32_t length = 0;  // payload bytes
  uint64_t layout_id = 0;
  uint64_t digest = 0;   // see payload_digest
  uint32_t written = 0;  // when it was published, in units of kTimeUnitNs since kTimeEpochNs
  uint32_t use = 0;      // and when it was last used

  // The same block, whenever it was used.
  friend bool operator==(const IndexEntry& a, const IndexEntry& b) {
    return a.key == b.key && a.slot == b.slot && a.length == b.length &&
           a.layout_id == b.layout_id && a.digest == b.digest && a.written == b.written;
  }
};

inline constexpr uint64_t kTimeEpochNs = 1700000000ull * 1000000000ull;
inline constexpr uint64_t kTimeUnitNs = 250000000ull;

// Never 0, which marks a free slot.
inline uint32_t time_stamp(uint64_t now_ns) {
  return now_ns < kTimeEpochNs + kTimeUnitNs
             ? 1
             : static_cast<uint32_t>((now_ns - kTimeEpochNs) / kTimeUnitNs);
}
inline uint64_t stamp_ns(uint32_t stamp) { return kTimeEpochNs + stamp * kTimeUnitNs; }

inline uint64_t payload_seed(const BlockKey& key, uint64_t store_seed) {
  return mix(key) ^ store_seed;
}

// The low half of XXH3-128. It depends on the key and the store, so bytes in a wrong place never
// fit.
inline uint64_t payload_digest(const void* data, size_t bytes, const BlockKey& key,
                               uint64_t store_seed) {
  return base::digest_128(data, bytes, payload_seed(key, store_seed)).low;
}

// The layouts that FORMAT.json lists. An entry holds the number of its own: 0 for the id 0, which
// stands for any, else one more than its place in the list.
using LayoutList = std::vector<uint64_t>;
inline constexpr size_t kMostLayouts = 250;
inline constexpr uint8_t kNoLayout = 0xFF;

inline uint8_t layout_number(const LayoutList& layouts, uint64_t id) {
  if (id == 0) return 0;
  for (size_t i = 0; i < layouts.size(); ++i) {
    if (layouts[i] == id) return static_cast<uint8_t>(i + 1);
  }
  return kNoLayout;
}

// Of ids or of numbers.
inline bool layouts_fit(uint64_t stored, uint64_t wanted) {
  return stored == wanted || stored == 0 || wanted == 0;
}

// An entry as it stands in the index; all zeros is a free slot. The stamp of use is outside the
// check: the writer sets it while readers look.
struct PackedEntry {
  uint64_t words[5] = {};

  BlockKey key() const { return {words[0], words[1]}; }
  uint32_t length() const { return static_cast<uint32_t>(words[3]); }
  uint32_t check() const { return static_cast<uint32_t>(words[3] >> 32) & kCheckMask; }
  uint8_t layout() const { return static_cast<uint8_t>(words[3] >> 56); }
  uint32_t written() const { return static_cast<uint32_t>(words[4]); }
  uint32_t use() const { return static_cast<uint32_t>(words[4] >> 32); }
  bool free() const { return (words[0] | words[1] | words[2] | words[3] | words[4]) == 0; }

  // `layout` is the number of entry.layout_id.
  static PackedEntry pack(const IndexEntry& entry, uint8_t layout, uint64_t store_seed) {
    PackedEntry packed;
    packed.words[0] = entry.key.low;
    packed.words[1] = entry.key.high;
    packed.words[2] = entry.digest;
    packed.words[3] = entry.length | uint64_t{layout} << 56;
    packed.words[4] = entry.written | uint64_t{entry.use} << 32;
    packed.words[3] |= uint64_t{packed.wanted_check(entry.slot, entry.layout_id, store_seed)} << 32;
    return packed;
  }

  // Whether this is a block in `slot`, and whole; fills in `entry` unless it is null.
  bool unpack(uint32_t slot, const LayoutList& layouts, uint64_t store_seed,
              IndexEntry* entry) const {
    if (written() == 0 || layout() > layouts.size()) return false;
    const uint64_t id = layout() == 0 ? 0 : layouts[layout() - 1u];
    if (check() != wanted_check(slot, id, store_seed)) return false;
    if (entry) *entry = {key(), slot, length(), id, words[2], written(), use()};
    return true;
  }

  static constexpr uint32_t kCheckMask = 0xFFFFFF;

 private:
  // Of the key, the digest, the length, the number and the id of the layout and the time.
  uint32_t wanted_check(uint32_t slot, uint64_t layout_id, uint64_t store_seed) const {
    const uint64_t checked[6] = {
        words[0], words[1], words[2], words[3] & 0xFF000000FFFFFFFFull, words[4] & 0xFFFFFFFFull,
        layout_id};
    return static_cast<uint32_t>(base::digest_64(checked, sizeof checked, store_seed ^ slot)) &
           kCheckMask;
  }
};
static_assert(sizeof(PackedEntry) == 40);

// An entry in mapped memory that one process changes while others look. Readers take a copy and
// trust it only when its check fits, which also finds copies torn by a change.
class SharedEntry {
 public:
  PackedEntry load() const {
    PackedEntry entry;
    for (size_t i = 0; i < kWords; ++i) {
      entry.words[i] = words_[i].load(std::memory_order_acquire);
    }
    return entry;
  }
  void store(const PackedEntry& entry) {
    for (size_t i = 0; i < kWords; ++i) {
      words_[i].store(entry.words[i], std::memory_order_release);
    }
  }
  // Words that are zero are not written: they may lie in a hole of the file that a full disk could
  // not fill.
  void clear() {
    for (std::atomic<uint64_t>& word : words_) {
      if (word.load(std::memory_order_relaxed) != 0) word.store(0, std::memory_order_release);
    }
  }
  // Only the last word changes, and only the writer writes it.
  void stamp_use(uint32_t use) {
    const uint64_t last = words_[kWords - 1].load(std::memory_order_relaxed);
    words_[kWords - 1].store((last & 0xFFFFFFFFull) | uint64_t{use} << 32,
                             std::memory_order_relaxed);
  }
  BlockKey key() const {
    return {words_[0].load(std::memory_order_relaxed), words_[1].load(std::memory_order_relaxed)};
  }
  // An entry may lie in two cache lines.
  void prefetch() const {
    __builtin_prefetch(&words_[0]);
    __builtin_prefetch(&words_[kWords - 1]);
  }

 private:
  static constexpr size_t kWords = 5;
  std::atomic<uint64_t> words_[kWords];
};
static_assert(sizeof(SharedEntry) == sizeof(PackedEntry));
static_assert(std::atomic<uint64_t>::is_always_lock_free);

}  // namespace ucm::pages
