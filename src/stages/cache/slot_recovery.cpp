// SPDX-License-Identifier: Apache-2.0
// What a table does about members that are no longer there.
#include <algorithm>

#include "stages/cache/slot_table.h"

namespace ucm::stages::cache {

bool SlotTable::reap() {
  if (!memory_.segment) return false;
  uint64_t gone = 0;
  for (unsigned m = 0; m < memory::SharedSegment::kMembers; ++m) {
    const uint64_t bit = uint64_t{1} << m;
    if ((header().members & bit) != 0 && !memory_.segment->alive(m)) gone |= bit;
  }
  return gone != 0 && reap_members(gone);
}

// The marks in the header go last: whoever takes over from here on finds the same members gone.
bool SlotTable::reap_members(uint64_t gone) {
  for (uint32_t slot = 0; slot < header().fresh; ++slot) {
    SlotEntry& left = entry(slot);
    if ((left.pinned_by & gone) == 0) continue;
    const bool gathering = left.state == SlotState::gathering;
    if (gathering || left.state == SlotState::fetching) left.tainted = true;
    if (left.state == SlotState::fetching) drop(slot);
    left.pinned_by &= ~gone;
    if (left.pinned_by != 0) continue;
    if (gathering) {
      // Shards that were copied stay, and others may copy the rest.
      std::ranges::copy(directory_.copied(slot), directory_.claimed(slot).begin());
      if (left.doomed) drop(slot);
    } else if (left.state == SlotState::leaving && !left.tainted) {
      release(slot);
    }
  }
  header().waiting &= ~gone;
  header().members &= ~gone;
  note_change();
  return true;
}

// A process died while it held the lock. The entries' states say what is true; all else is made
// from them again.
void SlotTable::repair() {
  DirectoryHeader& head = header();
  std::vector<uint32_t> order = order_->readable_order();
  std::vector<bool> placed(slots());
  std::erase_if(order, [&](uint32_t slot) { return !ready(slot); });
  for (const uint32_t slot : order) placed[slot] = true;
  index_.clear();
  order_->clear();
  head.free_head = static_cast<uint32_t>(slots());
  head.used = head.ready = head.gathering = head.resting = 0;
  for (uint32_t slot = head.fresh; slot-- > 0;) {
    SlotEntry& found = entry(slot);
    const bool kept = found.pinned_by != 0;
    if (found.state == SlotState::gathering && !kept) {
      std::ranges::copy(directory_.copied(slot), directory_.claimed(slot).begin());
    }
    const bool filling = found.state == SlotState::fetching || found.state == SlotState::gathering;
    const bool hopeless = filling && (found.doomed || found.state == SlotState::fetching);
    const bool over = found.state == SlotState::leaving && !found.tainted;
    ++head.used;
    if (found.state == SlotState::free || (!kept && (hopeless || over))) {
      release(slot);
      continue;
    }
    if (found.state == SlotState::leaving) {
      head.resting += found.tainted ? 1 : 0;
      continue;
    }
    index_.insert(slot);
    head.gathering += found.state == SlotState::gathering ? 1 : 0;
    if (found.state != SlotState::ready) continue;
    ++head.ready;
    if (!placed[slot]) order_->insert(slot, 0);
  }
  for (const uint32_t slot : order) order_->insert(slot, 0);
  ++head.repairs;
  note_change();
  reap();
}

void SlotTable::leave() {
  lock();
  reap_members(member_bit_);
  unlock();
}

}  // namespace ucm::stages::cache
