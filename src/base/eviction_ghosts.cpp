// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_ghosts.h"

namespace ucm::base {

uint32_t FingerprintTable::find(uint32_t fingerprint) const {
  uint32_t index = heads_[bucket(fingerprint)];
  while (index != kNone && entries_[index].fingerprint != fingerprint) index = entries_[index].next;
  return index;
}

void FingerprintTable::add(uint32_t index, uint32_t fingerprint) {
  if (index >= entries_.size()) entries_.resize(index + 1);
  if (++count_ > heads_.size()) grow();
  uint32_t& first = head(fingerprint);
  entries_[index] = {fingerprint, first};
  first = index;
}

void FingerprintTable::remove(uint32_t index) {
  uint32_t* place = &head(entries_[index].fingerprint);
  while (*place != index) place = &entries_[*place].next;
  *place = entries_[index].next;
  --count_;
}

void FingerprintTable::grow() {
  std::vector<uint32_t> before(heads_.size() * 2, kNone);
  before.swap(heads_);
  --shift_;
  for (uint32_t index : before) {
    while (index != kNone) {
      Entry& entry = entries_[index];
      const uint32_t next = entry.next;
      uint32_t& first = head(entry.fingerprint);
      entry.next = first;
      first = index;
      index = next;
    }
  }
}

uint32_t GhostLists::push(uint8_t list, uint32_t fingerprint) {
  if (const uint32_t before = find(fingerprint); before != kNone) remove(before);
  uint32_t index = used_;
  if (free_.empty()) {
    ++used_;
  } else {
    index = free_.back();
    free_.pop_back();
  }
  lists_.push_newest(list, index);
  table_.add(index, fingerprint);
  return index;
}

void GhostLists::remove(uint32_t index) {
  table_.remove(index);
  lists_.remove(index);
  free_.push_back(index);
}

}  // namespace ucm::base
