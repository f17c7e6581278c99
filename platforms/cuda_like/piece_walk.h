// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__) || defined(__MUSACC__) || defined(__MACACC__)
#define UCM_LANE __host__ __device__ inline
#else
#define UCM_LANE inline
#endif

// The index arithmetic of the gather and scatter kernels, in plain C++: a device runs it with one
// lane per thread, a host with a loop over the lanes.
namespace ucm::cuda_like {

// A copy as a kernel sees it: both addresses are the device's.
struct DevicePiece {
  void* dst;
  const void* src;
  size_t bytes;
};

struct alignas(16) Word16 {
  uint64_t low;
  uint64_t high;
};

// What lane `lane` of `lanes` copies of a piece whose two sides lie alike modulo sizeof(Word):
// single bytes up to the first whole word, every lanes-th word, single bytes behind the last one.
template <typename Word>
UCM_LANE void copy_words(char* dst, const char* src, size_t bytes, unsigned lane, unsigned lanes) {
  const size_t to_word =
      (sizeof(Word) - reinterpret_cast<uintptr_t>(dst) % sizeof(Word)) % sizeof(Word);
  const size_t head = to_word < bytes ? to_word : bytes;
  const size_t words = (bytes - head) / sizeof(Word);
  const size_t tail = head + words * sizeof(Word);
  for (size_t i = lane; i < head; i += lanes) dst[i] = src[i];
  auto* to = reinterpret_cast<Word*>(dst + head);
  const auto* from = reinterpret_cast<const Word*>(src + head);
#if defined(__CUDA_ARCH__)
#pragma unroll 4
#endif
  for (size_t i = lane; i < words; i += lanes) to[i] = from[i];
  for (size_t i = tail + lane; i < bytes; i += lanes) dst[i] = src[i];
}

// The widest words the two addresses allow: any piece of any size and any place is right.
UCM_LANE void copy_lane(const DevicePiece& piece, unsigned lane, unsigned lanes) {
  auto* dst = static_cast<char*>(piece.dst);
  const auto* src = static_cast<const char*>(piece.src);
  const uintptr_t apart = reinterpret_cast<uintptr_t>(dst) ^ reinterpret_cast<uintptr_t>(src);
  if (apart % sizeof(Word16) == 0) {
    copy_words<Word16>(dst, src, piece.bytes, lane, lanes);
  } else if (apart % sizeof(uint32_t) == 0) {
    copy_words<uint32_t>(dst, src, piece.bytes, lane, lanes);
  } else {
    copy_words<char>(dst, src, piece.bytes, lane, lanes);
  }
}

// Block `block` of `blocks` takes every blocks-th piece.
UCM_LANE void copy_block_lane(const DevicePiece* pieces, size_t count, unsigned block,
                              unsigned blocks, unsigned lane, unsigned lanes) {
  for (size_t i = block; i < count; i += blocks) copy_lane(pieces[i], lane, lanes);
}

}  // namespace ucm::cuda_like
