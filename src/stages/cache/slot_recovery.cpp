// SPDX-License-Identifier: Apache-2.0
// What a table does about members that are no longer there.
#include <algorithm>
#include <functional>

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
    const bool unsure =
        left.state == SlotState::ready && left.writer != 0 && (gone >> (left.writer - 1) & 1) != 0;
    if (left.state == SlotState::fetching || unsure) drop(slot);
    left.pinned_by &= ~gone;
    if (left.pinned_by != 0) continue;
    if (gathering) {
      // Shards that were copied stay, and others may copy the rest.
      settle(slot);
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
// from them again. Of the order the last uses are known; what a policy knew beyond them is lost.
void SlotTable::repair() {
  DirectoryHeader& head = header();
  std::vector<uint32_t> order;
  index_.clear();
  std::ranges::fill(directory_.order(), std::byte{0});
  head.free_head = static_cast<uint32_t>(slots());
  head.used = head.ready = head.gathering = head.resting = head.kept = 0;
  for (uint32_t slot = head.fresh; slot-- > 0;) {
    ++head.used;
    if (!recount(slot)) {
      release(slot);
    } else if (ready(slot)) {
      order.push_back(slot);
    }
  }
  std::ranges::sort(order, std::greater(),
                    [&](uint32_t slot) { return head.uses - entry(slot).since; });
  for (const uint32_t slot : order) policy_->insert(slot, mix(entry(slot).key));
  ++head.repairs;
  note_change();
  reap();
}

// Counts and indexes a slot by what its entry says. False: nothing keeps it, it is free.
bool SlotTable::recount(uint32_t slot) {
  SlotEntry& found = entry(slot);
  const bool pinned = found.pinned_by != 0;
  switch (found.state) {
    case SlotState::free:
      return false;
    case SlotState::leaving:
      header().resting += found.tainted ? 1 : 0;
      return pinned || found.tainted;
    case SlotState::fetching:
      if (!pinned) return false;  // it never began
      break;
    case SlotState::gathering:
      if (!pinned) {
        std::ranges::copy(directory_.copied(slot), directory_.claimed(slot).begin());
        if (hopeless(slot)) return false;
      }
      ++header().gathering;
      break;
    case SlotState::ready:
      ++header().ready;
      header().kept += found.kept ? 1 : 0;
      break;
  }
  index_.insert(slot);
  return true;
}

void SlotTable::leave() {
  lock();
  reap_members(member_bit_);
  unlock();
}

}  // namespace ucm::stages::cache
