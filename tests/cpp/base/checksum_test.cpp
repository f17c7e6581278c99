// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/checksum_isa.h"
#include "base/digest_copy.h"

namespace ucm::base {
namespace {

std::string sample(size_t bytes) {
  std::string text(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>(i * 131 + (i >> 7));
  return text;
}

TEST(Checksum, IsTheSameForEveryInstructionSet) {
  for (const size_t bytes : {0, 1, 16, 240, 241, 1024, 4096, 100001}) {
    const std::string text = sample(bytes);
    const Digest expected = generic::digest_128(text.data(), bytes, 77);
    EXPECT_EQ(digest_128(text.data(), bytes, 77), expected) << bytes;
    EXPECT_EQ(digest_64(text.data(), bytes, 77), generic::digest_64(text.data(), bytes, 77));
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
      EXPECT_EQ(avx2::digest_128(text.data(), bytes, 77), expected) << bytes;
    }
#endif
  }
}

using CopyDigest = void (*)(std::span<const CopyPiece>, std::span<Digest>);

std::vector<CopyDigest> copies_of_all_instruction_sets() {
  std::vector<CopyDigest> all = {copy_digest_128, generic::copy_digest_128};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) all.push_back(avx2::copy_digest_128);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
    all.push_back(avx512::copy_digest_128);
  }
#endif
  return all;
}

struct alignas(64) CacheLine {
  char bytes[64];
};

// Copies `bytes` in pieces of random sizes (each from a place of its own) to `offset` of aligned
// memory.
void check_copy(CopyDigest copy, size_t bytes, size_t offset, size_t largest,
                std::mt19937_64& rng) {
  const std::string text = sample(bytes);
  std::vector<CacheLine> target((bytes + offset) / sizeof(CacheLine) + 1);
  char* to = target.front().bytes + offset;
  std::memset(static_cast<void*>(target.data()), 0x5A, target.size() * sizeof(CacheLine));
  std::vector<std::string> sources;
  std::vector<CopyPiece> pieces;
  for (size_t at = 0; at < bytes || pieces.empty();) {
    const size_t some = std::min(bytes - at, static_cast<size_t>(rng() % (largest + 1)));
    sources.push_back(text.substr(at, some));
    pieces.push_back({to + at, nullptr, some});
    at += some;
  }
  for (size_t i = 0; i < pieces.size(); ++i) pieces[i].src = sources[i].data();
  const uint64_t seed = rng() % 3 == 0 ? 0 : rng();
  Digest digest = {seed, 0};
  copy(pieces, {&digest, 1});
  EXPECT_EQ(digest, generic::digest_128(text.data(), bytes, seed))
      << bytes << " bytes in " << pieces.size() << " pieces at " << offset;
  EXPECT_EQ(std::memcmp(to, text.data(), bytes), 0);
  EXPECT_EQ(to[bytes], 0x5A) << "a byte behind the last one was written";
  if (offset > 0) {
    EXPECT_EQ(to[-1], 0x5A) << "a byte before the first one was written";
  }
}

TEST(Checksum, IsTakenWhileCopyingWhateverTheSizesOfThePieces) {
  std::mt19937_64 rng(5);
  for (const CopyDigest copy : copies_of_all_instruction_sets()) {
    for (size_t bytes = 0; bytes < 2200; bytes += 1 + bytes / 200) {
      check_copy(copy, bytes, 0, bytes, rng);
    }
    for (int round = 0; round < 60; ++round) {
      const size_t bytes = rng() % (round % 10 == 0 ? 700000 : 9000);
      check_copy(copy, bytes, round % 3 == 0 ? 0 : rng() % 64, 1 + rng() % (bytes + 1), rng);
    }
    for (const size_t bytes : {1024, 65536, 524288, 524289, 600000}) {
      for (const size_t offset : {0, 8, 64}) check_copy(copy, bytes, offset, bytes, rng);
    }
  }
}

TEST(Checksum, IsTakenOfEachOfManyRowsThatAreCopied) {
  constexpr size_t kRows = 11;
  constexpr size_t kBytes = 70016;  // all rows together are written past the caches
  const std::string text = sample(kRows * kBytes);
  for (const CopyDigest copy : copies_of_all_instruction_sets()) {
    std::vector<CacheLine> target(kRows * kBytes / sizeof(CacheLine));
    char* to = target.front().bytes;
    std::vector<CopyPiece> pieces;
    std::vector<Digest> digests;
    for (size_t row = 0; row < kRows; ++row) {
      const size_t first = row * kBytes;
      pieces.push_back({to + first, text.data() + first, 40000});
      pieces.push_back({to + first + 40000, text.data() + first + 40000, kBytes - 40000});
      digests.push_back({row, 0});
    }
    copy(pieces, digests);
    EXPECT_EQ(std::memcmp(to, text.data(), text.size()), 0);
    for (size_t row = 0; row < kRows; ++row) {
      EXPECT_EQ(digests[row], generic::digest_128(text.data() + row * kBytes, kBytes, row)) << row;
    }
  }
}

TEST(Checksum, KnowsThePublishedValueOfTheEmptyText) {
  // XXH3 of no bytes with seed 0, as published in the test vectors of the specification.
  EXPECT_EQ(digest_64("", 0, 0), 0x2D06800538D394C2ull);
  EXPECT_EQ(digest_128("", 0, 0).low, 0x6001C324468D497Full);
  EXPECT_EQ(digest_128("", 0, 0).high, 0x99AA06D3014798D8ull);
}

TEST(Checksum, ChangesWithEveryBitAndWithTheSeed) {
  std::string text = sample(5000);
  const Digest before = digest_128(text.data(), text.size(), 1);
  for (const size_t at : {0, 17, 2048, 4999}) {
    text[at] = static_cast<char>(text[at] ^ 4);
    EXPECT_NE(digest_128(text.data(), text.size(), 1), before) << at;
    text[at] = static_cast<char>(text[at] ^ 4);
  }
  EXPECT_NE(digest_128(text.data(), text.size(), 2), before);
}

}  // namespace
}  // namespace ucm::base
