// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lists.h"

namespace ucm::base {

SlotLists::SlotLists(uint32_t slots, uint16_t lists, StateArena& arena)
    : ends_(arena.take<Ends>(lists)), links_(arena.take<Link>(slots)) {}

void SlotLists::push_newest(uint16_t list, uint32_t slot) {
  Ends& ends = ends_[list];
  links_[slot] = {ends.newest, 0};
  (ends.newest == 0 ? ends.oldest : links_[ends.newest - 1].newer) = slot + 1;
  ends.newest = slot + 1;
  ++ends.size;
}

void SlotLists::push_oldest(uint16_t list, uint32_t slot) {
  Ends& ends = ends_[list];
  links_[slot] = {0, ends.oldest};
  (ends.oldest == 0 ? ends.newest : links_[ends.oldest - 1].older) = slot + 1;
  ends.oldest = slot + 1;
  ++ends.size;
}

void SlotLists::remove(uint16_t list, uint32_t slot) {
  const Link link = links_[slot];
  Ends& ends = ends_[list];
  (link.older == 0 ? ends.oldest : links_[link.older - 1].newer) = link.newer;
  (link.newer == 0 ? ends.newest : links_[link.newer - 1].older) = link.older;
  --ends.size;
  links_[slot] = {0, 0};
}

void SlotLists::take_over(uint16_t list, uint16_t older) {
  Ends& ends = ends_[list];
  Ends& taken = ends_[older];
  if (taken.size == 0) return;
  if (ends.size == 0) {
    ends = taken;
  } else {
    links_[ends.oldest - 1].older = taken.newest;
    links_[taken.newest - 1].newer = ends.oldest;
    ends.oldest = taken.oldest;
    ends.size += taken.size;
  }
  taken = {};
}

}  // namespace ucm::base
