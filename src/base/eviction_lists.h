// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/eviction_state.h"

namespace ucm::base {

// Doubly linked lists over slots: a slot is in one list at most, the caller knows in which, and
// every call is O(1). 8 bytes a slot and 12 a list. Not thread-safe.
class SlotLists {
 public:
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  SlotLists(uint32_t slots, uint16_t lists, StateArena& arena);

  // Whether the slot is in the only list there is.
  bool linked(uint32_t slot) const { return links_[slot].older != 0 || ends_->oldest == slot + 1; }
  uint32_t size(uint16_t list) const { return ends_[list].size; }
  // kNone at the end.
  uint32_t oldest(uint16_t list) const { return ends_[list].oldest - 1; }
  uint32_t newest(uint16_t list) const { return ends_[list].newest - 1; }
  uint32_t newer(uint32_t slot) const { return links_[slot].newer - 1; }

  // The slot must not be in a list.
  void push_newest(uint16_t list, uint32_t slot);
  void push_oldest(uint16_t list, uint32_t slot);
  // The slot must be in this list.
  void remove(uint16_t list, uint32_t slot);
  // All slots of `older` become the oldest ones of `list`.
  void take_over(uint16_t list, uint16_t older);

 private:
  // Numbers of slots plus one: zero stands for none.
  struct Link {
    uint32_t older;
    uint32_t newer;
  };
  struct Ends {
    uint32_t oldest;
    uint32_t newest;
    uint32_t size;
  };
  Ends* const ends_;
  Link* const links_;
};

}  // namespace ucm::base
