// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace ucm::base {

// How many of so many slots a share is: at least one unless the share is 0.
inline uint64_t share_of(uint64_t slots, double share) {
  if (share <= 0) return 0;
  return std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(slots) * share));
}

// A set of slots that may hold a share of all of them: a bit a slot. Not thread-safe.
class SlotMarks {
 public:
  SlotMarks() = default;
  SlotMarks(uint64_t slots, double share) : marks_(slots), most_(share_of(slots, share)) {}

  bool has(uint32_t slot) const { return marks_[slot]; }
  // False when there is no room for another mark.
  bool add(uint32_t slot) {
    if (has(slot)) return true;
    if (size_ == most_) return false;
    marks_[slot] = true;
    ++size_;
    return true;
  }
  void remove(uint32_t slot) {
    size_ -= has(slot);
    marks_[slot] = false;
  }
  uint64_t size() const { return size_; }
  uint64_t bytes() const { return marks_.capacity() / 8; }

 private:
  std::vector<bool> marks_;
  uint64_t most_ = 0;
  uint64_t size_ = 0;
};

}  // namespace ucm::base
