// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace ucm {

// A 128-bit XXH3 digest, as two little-endian words.
struct Digest {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

}  // namespace ucm
