// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdlib>
#include <utility>

#include "ucm/layout.h"

namespace ucm::io {

// Memory for direct transfers: aligned to kAlign and a multiple of it. Move-only. `make` answers
// an empty buffer when there is no memory.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  static AlignedBuffer make(size_t bytes) {
    AlignedBuffer buffer;
    buffer.data_ = static_cast<std::byte*>(std::aligned_alloc(kAlign, align_up(bytes ? bytes : 1)));
    buffer.bytes_ = buffer.data_ ? align_up(bytes ? bytes : 1) : 0;
    return buffer;
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept { *this = std::move(other); }
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~AlignedBuffer() { std::free(data_); }

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ucm::io
