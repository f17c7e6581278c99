// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/eviction_ghosts.h"

namespace ucm::base {

// Who asks for a place: admitted from the second time on, as long as the first one is remembered.
// As many are as there are slots, in 3 bytes each. Not thread-safe.
class SecondUse {
 public:
  explicit SecondUse(uint32_t slots)
      : memory_(bytes(slots) / sizeof(uint64_t) + 1),
        arena_(reinterpret_cast<std::byte*>(memory_.data())),
        seen_(slots, arena_) {}

  bool admit(uint64_t fingerprint) {
    const uint32_t key = short_fingerprint(fingerprint);
    if (seen_.take(key)) return true;
    (void)seen_.push(key, 0);
    return false;
  }
  size_t bytes() const { return memory_.size() * sizeof(uint64_t); }

 private:
  static size_t bytes(uint32_t slots) {
    StateArena counted(nullptr);
    const GhostTable table(slots, counted);
    return counted.used();
  }
  std::vector<uint64_t> memory_;
  StateArena arena_;
  GhostTable seen_;
};

}  // namespace ucm::base
