// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include "base/checksum_isa.h"

namespace ucm::base {
namespace {

struct Kernels {
  Digest (*digest_128)(const void*, size_t, uint64_t);
  uint64_t (*digest_64)(const void*, size_t, uint64_t);
  void (*copy_digest_128)(std::span<const CopyPiece>, std::span<Digest>);
};

#define UCM_KERNELS(isa) {isa::digest_128, isa::digest_64, isa::copy_digest_128}

Kernels pick() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    return UCM_KERNELS(avx512);
  }
  if (__builtin_cpu_supports("avx2")) return UCM_KERNELS(avx2);
#endif
  return UCM_KERNELS(generic);
}

const Kernels& kernels() {
  static const Kernels chosen = pick();
  return chosen;
}

}  // namespace

Digest digest_128(const void* data, size_t bytes, uint64_t seed) {
  return kernels().digest_128(data, bytes, seed);
}

uint64_t digest_64(const void* data, size_t bytes, uint64_t seed) {
  return kernels().digest_64(data, bytes, seed);
}

void copy_digest_128(std::span<const CopyPiece> pieces, std::span<Digest> digests) {
  kernels().copy_digest_128(pieces, digests);
}

}  // namespace ucm::base
