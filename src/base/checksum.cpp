// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include "base/checksum_isa.h"

namespace ucm::base {
namespace {

struct Kernels {
  Digest (*digest_128)(const void*, size_t, uint64_t);
  uint64_t (*digest_64)(const void*, size_t, uint64_t);
};

Kernels pick() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    return {avx512::digest_128, avx512::digest_64};
  }
  if (__builtin_cpu_supports("avx2")) return {avx2::digest_128, avx2::digest_64};
#endif
  return {generic::digest_128, generic::digest_64};
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

}  // namespace ucm::base
