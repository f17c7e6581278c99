// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "base/checksum_isa.h"
#include "base/digest_stream.h"

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

TEST(Checksum, IsTheSameWhenTheBytesComePieceByPiece) {
  for (const size_t bytes : {0, 1, 240, 241, 4096, 100001}) {
    const std::string text = sample(bytes);
    for (const size_t step : {1, 100, 4096, 65536}) {
      DigestStream stream(77);
      for (size_t at = 0; at < bytes; at += step) {
        stream.add(text.data() + at, std::min(step, bytes - at));
      }
      EXPECT_EQ(stream.digest(), digest_128(text.data(), bytes, 77)) << bytes << " by " << step;
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
