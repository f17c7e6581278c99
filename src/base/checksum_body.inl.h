// SPDX-License-Identifier: Apache-2.0
// The XXH3 bodies, compiled once per instruction set by the checksum_<isa>.cpp files, which define
// UCM_CHECKSUM_ISA. Everything of xxhash is inlined, so the copies can not clash at link time.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/checksum_isa.h"
#include "base/digest_copy.inl.h"

namespace ucm::base::UCM_CHECKSUM_ISA {

Digest digest_128(const void* data, size_t bytes, uint64_t seed) {
  const XXH128_hash_t hash = XXH3_128bits_withSeed(data, bytes, seed);
  return {hash.low64, hash.high64};
}

uint64_t digest_64(const void* data, size_t bytes, uint64_t seed) {
  return XXH3_64bits_withSeed(data, bytes, seed);
}

}  // namespace ucm::base::UCM_CHECKSUM_ISA
