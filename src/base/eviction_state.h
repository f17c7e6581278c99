// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <type_traits>

namespace ucm::base {

// Deals out parts of the memory in which a policy keeps all that it knows. The parts hold numbers
// of slots, no addresses, and zeroed memory is an empty policy: the memory may be shared between
// processes that map it at different places. Without memory it only counts the bytes.
class StateArena {
 public:
  explicit StateArena(std::byte* memory) : memory_(memory) {}

  template <typename T>
  T* take(size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    used_ = (used_ + alignof(T) - 1) / alignof(T) * alignof(T);
    std::byte* const place = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += count * sizeof(T);
    return reinterpret_cast<T*>(place);
  }
  size_t used() const { return used_; }

 private:
  std::byte* const memory_;
  size_t used_ = 0;
};

}  // namespace ucm::base
