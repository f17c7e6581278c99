// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lists.h"

namespace ucm::base {

SlotLists::SlotLists(uint32_t slots, uint16_t lists, StateArena& arena)
    : ends_(arena.take<Ends>(lists)),
      links_(arena.take<Link>(slots)),
      list_(arena.take<uint16_t>(slots)) {}

void SlotLists::push_newest(uint16_t list, uint32_t slot) {
  Ends& ends = ends_[list];
  links_[slot] = {ends.newest, 0};
  (ends.newest == 0 ? ends.oldest : links_[ends.newest - 1].newer) = slot + 1;
  ends.newest = slot + 1;
  list_[slot] = static_cast<uint16_t>(list + 1);
  ++ends.size;
}

void SlotLists::remove(uint32_t slot) {
  const Link link = links_[slot];
  Ends& ends = ends_[list_of(slot)];
  (link.older == 0 ? ends.oldest : links_[link.older - 1].newer) = link.newer;
  (link.newer == 0 ? ends.newest : links_[link.newer - 1].older) = link.older;
  --ends.size;
  list_[slot] = 0;
}

void SlotLists::move_newest(uint16_t list, uint32_t slot) {
  remove(slot);
  push_newest(list, slot);
}

}  // namespace ucm::base
