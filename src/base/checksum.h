// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "ucm/key.h"

namespace ucm::base {

using ucm::Digest;

// XXH3-128 and XXH3-64 of `bytes` bytes, by the fastest instruction set of this processor. The
// result is the same on every machine.
Digest digest_128(const void* data, size_t bytes, uint64_t seed);
uint64_t digest_64(const void* data, size_t bytes, uint64_t seed);

}  // namespace ucm::base
