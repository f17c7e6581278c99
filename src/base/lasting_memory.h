// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace ucm::base {

// Memory in equal units that stays mapped for long, such as a pool of slots. Whoever moves bytes
// may prepare it once (register it with the kernel) instead of at every transfer. Ids are never
// used twice: memory that is mapped again at the same address is other memory. Thread-safe.
struct LastingMemory {
  uint64_t id = 0;  // 0: none
  const std::byte* data = nullptr;
  size_t bytes = 0;
  size_t unit_bytes = 0;

  bool holds(const void* first, size_t count) const {
    const auto* at = static_cast<const std::byte*>(first);
    return id != 0 && at >= data && count <= bytes &&
           at - data <= static_cast<ptrdiff_t>(bytes - count);
  }
};

// Answers the id. The memory must be withdrawn before it is unmapped.
uint64_t announce_memory(const void* data, size_t bytes, size_t unit_bytes);
void withdraw_memory(uint64_t id);
// What holds all of the range, or an id of 0.
LastingMemory find_memory(const void* first, size_t bytes);
// Changes whenever something is announced or withdrawn.
uint64_t memory_changes();
bool memory_announced(uint64_t id);

}  // namespace ucm::base
