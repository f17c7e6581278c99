// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "base/eviction_state.h"

namespace ucm::base {

// Half of a fingerprint is enough to recognise a key: with a million of them one answer in four
// thousand is wrong, and the price of a wrong one is a block kept a little longer.
inline uint32_t short_fingerprint(uint64_t fingerprint) {
  return static_cast<uint32_t>(fingerprint ^ (fingerprint >> 32));
}

// Remembers keys that left, with a number below 1024 each, in 3 bytes a ghost. A ghost belongs to
// one line of 64, in order of arrival: who comes to a full line takes the place of its oldest. For
// one key in 250 a wrong ghost is found. Not thread-safe.
class GhostTable {
 public:
  // Room for at least so many.
  GhostTable(uint32_t ghosts, StateArena& arena);

  // The number of the ghost.
  std::optional<uint16_t> find(uint32_t fingerprint) const;
  // The same, and the ghost is forgotten.
  std::optional<uint16_t> take(uint32_t fingerprint);
  // A ghost of the same fingerprint must not be there. The number of the one that left for it.
  std::optional<uint16_t> push(uint32_t fingerprint, uint16_t number);
  // The line of the fingerprint keeps its share of `limit` ghosts with this number, the newest
  // ones. How many left.
  uint32_t trim(uint32_t fingerprint, uint16_t number, uint32_t limit);

 private:
  static constexpr uint32_t kLine = 64;
  // 14 bits of tag, 10 of number. A tag of 0: none, from here on to the end of the line.
  struct Ghost {
    uint8_t bytes[3];

    uint16_t tag() const { return static_cast<uint16_t>((bytes[0] | bytes[1] << 8) & kTagMask); }
    uint16_t number() const { return static_cast<uint16_t>(bytes[1] >> 6 | bytes[2] << 2); }
  };
  static constexpr uint32_t kTagMask = 0x3FFF;
  static uint16_t tag_of(uint32_t fingerprint);
  Ghost* line(uint32_t fingerprint) const;
  uint32_t find_in(const Ghost* line, uint16_t tag) const;
  void remove(Ghost* line, uint32_t place);

  const uint32_t lines_;
  const uint32_t places_;  // of a line that are used
  Ghost* const ghosts_;
};

// Finds a small number by the fingerprint it was added with. 12 to 16 bytes a number.
class FingerprintTable {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  FingerprintTable(uint32_t numbers, StateArena& arena);

  uint32_t find(uint32_t fingerprint) const;
  // The number must not be in the table.
  void add(uint32_t number, uint32_t fingerprint);
  // The number must be in the table.
  void remove(uint32_t number);
  uint32_t fingerprint(uint32_t number) const { return entries_[number].fingerprint; }

 private:
  uint32_t& head(uint32_t fingerprint) const;

  struct Entry {
    uint32_t fingerprint;
    uint32_t next;  // in its bucket, plus one
  };
  const uint32_t heads_count_;
  Entry* const entries_;
  uint32_t* const heads_;  // plus one
};

}  // namespace ucm::base
