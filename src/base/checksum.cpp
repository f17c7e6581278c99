// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include "base/checksum_isa.h"
#include "base/digest_stream.h"

namespace ucm::base {
namespace {

struct Kernels {
  Digest (*digest_128)(const void*, size_t, uint64_t);
  uint64_t (*digest_64)(const void*, size_t, uint64_t);
  void (*start_stream)(void*, uint64_t);
  void (*add_to_stream)(void*, const void*, size_t);
  Digest (*end_stream)(const void*);
};

#define UCM_KERNELS(isa) \
  {isa::digest_128, isa::digest_64, isa::start_stream, isa::add_to_stream, isa::end_stream}

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

DigestStream::DigestStream(uint64_t seed) { kernels().start_stream(state_, seed); }

void DigestStream::add(const void* data, size_t bytes) {
  kernels().add_to_stream(state_, data, bytes);
}

Digest DigestStream::digest() const { return kernels().end_stream(state_); }

}  // namespace ucm::base
