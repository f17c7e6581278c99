// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

namespace ucm::base {

// A 128-bit XXH3 digest, as two little-endian words.
struct Digest {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

// XXH3-128 and XXH3-64 of `bytes` bytes, by the fastest instruction set of this processor. The
// result is the same on every machine.
Digest digest_128(const void* data, size_t bytes, uint64_t seed);
uint64_t digest_64(const void* data, size_t bytes, uint64_t seed);

}  // namespace ucm::base
