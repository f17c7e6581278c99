// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/checksum.h"

namespace ucm::base {

// `digest_128` of bytes that come piece by piece, for whoever reads them for another purpose
// anyway.
class DigestStream {
 public:
  static constexpr size_t kStateBytes = 640;

  explicit DigestStream(uint64_t seed);
  DigestStream(const DigestStream&) = delete;
  DigestStream& operator=(const DigestStream&) = delete;

  void add(const void* data, size_t bytes);
  Digest digest() const;

 private:
  alignas(64) std::byte state_[kStateBytes];
};

}  // namespace ucm::base
