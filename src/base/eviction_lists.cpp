// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lists.h"

namespace ucm::base {

void IndexLists::push_newest(uint8_t list, uint32_t index) {
  make_room(index);
  Ends& ends = ends_[list];
  links_[index] = {ends.newest, kNone};
  (ends.newest == kNone ? ends.oldest : links_[ends.newest].newer) = index;
  ends.newest = index;
  list_[index] = list;
  ++ends.size;
}

void IndexLists::remove(uint32_t index) {
  redirect(index, links_[index].newer, links_[index].older);
  --ends_[list_[index]].size;
  list_[index] = kUnlinked;
}

void IndexLists::move_newest(uint8_t list, uint32_t index) {
  remove(index);
  push_newest(list, index);
}

void IndexLists::replace(uint32_t index, uint32_t successor) {
  make_room(successor);
  redirect(index, successor, successor);
  links_[successor] = links_[index];
  list_[successor] = list_[index];
  list_[index] = kUnlinked;
}

void IndexLists::make_room(uint32_t index) {
  // A vector grows by doubling, also when it is resized by one.
  if (index < list_.size()) return;
  links_.resize(index + 1);
  list_.resize(index + 1, kUnlinked);
}

void IndexLists::redirect(uint32_t index, uint32_t older_side, uint32_t newer_side) {
  const Link link = links_[index];
  Ends& ends = ends_[list_[index]];
  (link.older == kNone ? ends.oldest : links_[link.older].newer) = older_side;
  (link.newer == kNone ? ends.newest : links_[link.newer].older) = newer_side;
}

}  // namespace ucm::base
