// SPDX-License-Identifier: Apache-2.0
#include "host_copy.h"

#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ucm {
namespace {

// Below this a block is likely read again while it is still in a cache (figures: tests/bench).
constexpr size_t kStreamFrom = size_t{512} << 10;

#if defined(__x86_64__)
__attribute__((target("avx2"))) void stream_copy(void* dst, const void* src, size_t bytes) {
  auto* to = static_cast<char*>(dst);
  const auto* from = static_cast<const char*>(src);
  const size_t lead = (64 - reinterpret_cast<uintptr_t>(to) % 64) % 64;
  std::memcpy(to, from, lead);
  to += lead;
  from += lead;
  bytes -= lead;
  for (; bytes >= 128; bytes -= 128, to += 128, from += 128) {
    _mm_prefetch(from + 1024, _MM_HINT_NTA);
    _mm_prefetch(from + 1088, _MM_HINT_NTA);
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
    const __m256i c = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 64));
    const __m256i d = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 96));
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to), a);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + 32), b);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + 64), c);
    _mm256_stream_si256(reinterpret_cast<__m256i*>(to + 96), d);
  }
  // Streaming stores are weakly ordered: nobody may be told of the copy before they have landed.
  _mm_sfence();
  std::memcpy(to, from, bytes);
}

bool can_stream() {
  static const bool yes = __builtin_cpu_supports("avx2") != 0;
  return yes;
}
#endif

}  // namespace

void host_copy(void* dst, const void* src, size_t bytes) {
#if defined(__x86_64__)
  if (bytes >= kStreamFrom && can_stream()) {
    stream_copy(dst, src, bytes);
    return;
  }
#endif
  std::memcpy(dst, src, bytes);
}

}  // namespace ucm
