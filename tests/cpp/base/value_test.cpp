// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cerrno>

#include "ucm/key.h"
#include "ucm/layout.h"
#include "ucm/status.h"

namespace ucm {
namespace {

TEST(Status, PicksTheCodeFromTheErrorNumberAndShowsIt) {
  const Status full = errno_status(ENOSPC, "disk: write %s", "3fa9...");
  EXPECT_EQ(full.code(), Code::no_space);
  EXPECT_EQ(full.message(), "disk: write 3fa9...: No space left on device (errno 28)");
  EXPECT_EQ(errno_status(EIO, "x").code(), Code::io_error);
  EXPECT_EQ(errno_status(ENOENT, "x").code(), Code::not_found);
}

TEST(Status, SpellsEveryCode) {
  for (int code = 0; code < kCodeCount; ++code) EXPECT_FALSE(name(static_cast<Code>(code)).empty());
}

TEST(BlockKey, SurvivesItsHexForm) {
  const BlockKey key = {0x0807060504030201ull, 0x100F0E0D0C0B0A09ull};
  EXPECT_EQ(key.hex(), "0102030405060708090a0b0c0d0e0f10");
  EXPECT_EQ(key.prefix(), "01020304...");
  BlockKey parsed;
  ASSERT_TRUE(BlockKey::parse(key.hex(), &parsed));
  EXPECT_EQ(parsed, key);
  EXPECT_FALSE(BlockKey::parse("0102", &parsed));
  EXPECT_FALSE(BlockKey::parse(std::string(32, 'G'), &parsed));
  EXPECT_EQ(parsed, key);
}

TEST(BlockLayout, AddsUpItsPiecesAndShards) {
  const BlockLayout layout = BlockLayout::make({100, 300}, 5, 9).value();
  EXPECT_EQ(layout.shard_bytes(), 400u);
  EXPECT_EQ(layout.block_bytes(), 2000u);
  EXPECT_EQ(layout.slot_bytes(), 4096u);
  EXPECT_EQ(layout.flat().pieces(), 1u);
  EXPECT_EQ(layout.flat().block_bytes(), 2000u);
  EXPECT_EQ(layout.flat().id(), 9u);
  EXPECT_TRUE(BlockLayout().flat().empty());
}

TEST(BlockLayout, RefusesWhatCanNotBeABlock) {
  EXPECT_EQ(BlockLayout::make({}, 1, 0).status().code(), Code::invalid_argument);
  EXPECT_EQ(BlockLayout::make({0}, 1, 0).status().code(), Code::invalid_argument);
  EXPECT_EQ(BlockLayout::make({1}, 0, 0).status().code(), Code::invalid_argument);
  EXPECT_EQ(BlockLayout::make({size_t{1} << 60}, 1, 0).status().code(), Code::invalid_argument);
  EXPECT_EQ(BlockLayout::make({size_t{1} << 30}, 1u << 31, 0).status().code(),
            Code::invalid_argument);
}

}  // namespace
}  // namespace ucm
