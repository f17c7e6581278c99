// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>

#include "base/eviction.h"
#include "base/eviction_ghosts.h"
#include "base/eviction_state.h"

namespace ucm::base {

// The short fingerprints of slots, asked of the owner of the slots where it can tell, else kept in
// 4 bytes a slot.
class SlotFingerprints {
 public:
  SlotFingerprints(uint32_t capacity, FingerprintOf owner, StateArena& arena)
      : owner_(std::move(owner)), own_(owner_ ? nullptr : arena.take<uint32_t>(capacity)) {}

  uint32_t at(uint32_t slot) const { return owner_ ? short_fingerprint(owner_(slot)) : own_[slot]; }
  void set(uint32_t slot, uint32_t fingerprint) {
    if (!owner_) own_[slot] = fingerprint;
  }

 private:
  const FingerprintOf owner_;
  uint32_t* const own_;
};

}  // namespace ucm::base
