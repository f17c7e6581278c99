// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace ucm::base {

// Doubly linked lists over small numbers (slots, ghosts): a number is in one list at most, and
// every call is O(1). 9 bytes a number, up to the highest one ever linked. Not thread-safe.
class IndexLists {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF;
  static constexpr uint8_t kUnlinked = 0xFF;
  static constexpr uint8_t kMostLists = 2;

  // kUnlinked for a number that is in no list.
  uint8_t list_of(uint32_t index) const { return index < list_.size() ? list_[index] : kUnlinked; }
  bool linked(uint32_t index) const { return list_of(index) != kUnlinked; }
  uint32_t size(uint8_t list) const { return ends_[list].size; }
  // kNone at the end.
  uint32_t oldest(uint8_t list) const { return ends_[list].oldest; }
  uint32_t newer(uint32_t index) const { return links_[index].newer; }

  // The number must not be in a list.
  void push_newest(uint8_t list, uint32_t index);
  // The number must be in a list.
  void remove(uint32_t index);
  void move_newest(uint8_t list, uint32_t index);
  // `successor` takes the place of `index`, which is in no list afterwards.
  void replace(uint32_t index, uint32_t successor);

 private:
  struct Link {
    uint32_t older = kNone;
    uint32_t newer = kNone;
  };
  struct Ends {
    uint32_t oldest = kNone;
    uint32_t newest = kNone;
    uint32_t size = 0;
  };
  void make_room(uint32_t index);
  // Lets both neighbours of a number point at `older_side` and `newer_side` instead of it.
  void redirect(uint32_t index, uint32_t older_side, uint32_t newer_side);

  std::vector<Link> links_;
  std::vector<uint8_t> list_;
  std::array<Ends, kMostLists> ends_;
};

}  // namespace ucm::base
