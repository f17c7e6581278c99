// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace ucm::pages {

// A set of slots that hands out its members in turn, upwards and around: writes of a batch lie
// behind each other, and what was just freed rests longest. A bit a slot, and one for 64 of them.
// Not thread-safe.
class FreeSlots {
 public:
  FreeSlots() = default;
  explicit FreeSlots(uint64_t slots)
      : words_((slots + 63) / 64), groups_((words_.size() + 63) / 64) {}

  bool empty() const { return size_ == 0; }
  uint64_t size() const { return size_; }
  uint64_t bytes() const { return (words_.capacity() + groups_.capacity()) * sizeof(uint64_t); }

  // The slot must not be in the set.
  void add(uint32_t slot) {
    words_[slot / 64] |= uint64_t{1} << slot % 64;
    groups_[slot / 64 / 64] |= uint64_t{1} << slot / 64 % 64;
    ++size_;
  }
  // The set must not be empty.
  uint32_t take() {
    uint64_t slot = first_from(turn_);
    if (slot == kNone) slot = first_from(0);
    words_[slot / 64] &= ~(uint64_t{1} << slot % 64);
    if (words_[slot / 64] == 0) groups_[slot / 64 / 64] &= ~(uint64_t{1} << slot / 64 % 64);
    --size_;
    turn_ = slot + 1;
    return static_cast<uint32_t>(slot);
  }

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};

  uint64_t first_from(uint64_t slot) const {
    uint64_t word = slot / 64;
    if (word >= words_.size()) return kNone;
    if (const uint64_t bits = words_[word] >> slot % 64; bits != 0) {
      return slot + static_cast<uint64_t>(std::countr_zero(bits));
    }
    ++word;
    for (uint64_t group = word / 64; group < groups_.size(); ++group) {
      uint64_t bits = groups_[group];
      if (group == word / 64) bits &= ~uint64_t{0} << word % 64;
      if (bits == 0) continue;
      const uint64_t found = group * 64 + static_cast<uint64_t>(std::countr_zero(bits));
      return found * 64 + static_cast<uint64_t>(std::countr_zero(words_[found]));
    }
    return kNone;
  }

  std::vector<uint64_t> words_;
  std::vector<uint64_t> groups_;  // of words that are not zero
  uint64_t turn_ = 0;
  uint64_t size_ = 0;
};

}  // namespace ucm::pages
