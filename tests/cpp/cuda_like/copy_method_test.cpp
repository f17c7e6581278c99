// SPDX-License-Identifier: Apache-2.0
#include "copy_method.h"

#include <gtest/gtest.h>

#include <vector>

#include "piece_walk.h"
#include "pinned_ranges.h"

namespace ucm::cuda_like {
namespace {

std::vector<CopyPiece> rows(size_t count, size_t bytes, size_t dst_pitch, size_t src_pitch) {
  std::vector<CopyPiece> pieces;
  for (size_t i = 0; i < count; ++i) {
    pieces.push_back({reinterpret_cast<void*>(1000000 + i * dst_pitch),
                      reinterpret_cast<const void*>(9000000 + i * src_pitch), bytes});
  }
  return pieces;
}

TEST(CopyShape, EqualRowsAtEqualDistancesArePitched) {
  const CopyShape shape = shape_of(rows(10, 100, 150, 100));
  EXPECT_TRUE(shape.pitched);
  EXPECT_EQ(shape.pitch.dst, 150u);
  EXPECT_EQ(shape.pitch.src, 100u);
  EXPECT_EQ(shape.mean_bytes, 100u);
}

TEST(CopyShape, OverlappingBackwardUnequalOrVeryFarRowsAreNotPitched) {
  EXPECT_FALSE(shape_of(rows(10, 100, 90, 100)).pitched);
  EXPECT_FALSE(shape_of(rows(10, 100, 150, kMaxPitch + 1)).pitched);
  EXPECT_FALSE(shape_of(rows(1, 100, 150, 100)).pitched);
  EXPECT_FALSE(shape_of({}).pitched);
  std::vector<CopyPiece> pieces = rows(10, 100, 150, 100);
  std::swap(pieces[0], pieces[1]);
  EXPECT_FALSE(shape_of(pieces).pitched);
  pieces = rows(10, 100, 150, 100);
  pieces[9].bytes = 99;
  EXPECT_FALSE(shape_of(pieces).pitched);
}

CopyMethod chosen(const MethodTable& table, size_t count, size_t bytes, bool pitched) {
  CopyShape shape;
  shape.pieces = count;
  shape.mean_bytes = bytes;
  shape.pitched = pitched;
  return table.choose(shape, Direction::dump);
}

TEST(CopyMethod, SmallScatteredPiecesGoByKernelAndLargeOnesByTheCopyEngine) {
  const MethodTable table = {true, true, {0, 100 << 10}};
  EXPECT_EQ(chosen(table, 1, 100, false), CopyMethod::each);
  EXPECT_EQ(chosen(table, 4, 100, true), CopyMethod::batch);
  EXPECT_EQ(chosen(table, 100, 300 << 10, true), CopyMethod::batch);
  EXPECT_EQ(chosen(table, 100, 8 << 10, true), CopyMethod::pitched);
  EXPECT_EQ(chosen(table, 100, 8 << 10, false), CopyMethod::kernel);
  // Between the two the measured table decides.
  EXPECT_EQ(chosen(table, 100, 99 << 10, false), CopyMethod::kernel);
  EXPECT_EQ(chosen(table, 100, 101 << 10, false), CopyMethod::batch);
}

TEST(CopyMethod, WhatTheDeviceLacksIsNotChosen) {
  const MethodTable table;
  EXPECT_EQ(chosen(table, 100, 8 << 10, false), CopyMethod::each);
  EXPECT_EQ(chosen(table, 100, 1 << 20, false), CopyMethod::each);
}

TEST(PinnedRanges, CopiesAreCutWhereChunksMeet) {
  PinnedRanges ranges;
  ranges.add({{0x10000, 0x1000, 0x90000}, {0x11000, 0x1000, 0}});
  std::vector<CopyPiece> cut;
  auto* far = reinterpret_cast<std::byte*>(0x500000);
  const CopyPiece piece = {far, reinterpret_cast<const void*>(0x10F00), 0x300};
  ranges.cut(std::span(&piece, 1), Direction::load, &cut);
  ASSERT_EQ(cut.size(), 2u);
  EXPECT_EQ(cut[0].bytes, 0x100u);
  EXPECT_EQ(cut[1].dst, far + 0x100);
  EXPECT_EQ(cut[1].src, reinterpret_cast<const void*>(0x11000));
  EXPECT_EQ(cut[1].bytes, 0x200u);
  EXPECT_EQ(ranges.device_address(0x10010), 0x90010u);
  EXPECT_EQ(ranges.device_address(0x11010), 0u);
  EXPECT_EQ(ranges.device_address(0x12000), 0u);
  EXPECT_TRUE(ranges.in_one_chunk(0x10F00, 0x100));
  EXPECT_FALSE(ranges.in_one_chunk(0x10F00, 0x101));
  EXPECT_TRUE(ranges.take(0x11000).empty());
  EXPECT_EQ(ranges.take(0x10000).size(), 2u);
  EXPECT_EQ(ranges.device_address(0x10010), 0u);
}

// Every alignment of both sides, every size around the word sizes, several lanes.
TEST(PieceWalk, LanesTogetherCopyEveryByteOnceAndNoOther) {
  alignas(16) char src[200];
  alignas(16) char dst[200];
  for (size_t i = 0; i < sizeof src; ++i) src[i] = static_cast<char>(i + 1);
  for (size_t to = 0; to < 17; ++to) {
    for (size_t from = 0; from < 17; ++from) {
      for (const size_t bytes : {0, 1, 3, 4, 15, 16, 17, 31, 33, 64, 100}) {
        std::fill(std::begin(dst), std::end(dst), '\0');
        const DevicePiece piece = {dst + to, src + from, bytes};
        for (unsigned lane = 0; lane < 5; ++lane) copy_lane(piece, lane, 5);
        for (size_t i = 0; i < sizeof dst; ++i) {
          const bool inside = i >= to && i < to + bytes;
          ASSERT_EQ(dst[i], inside ? src[i - to + from] : '\0')
              << to << ' ' << from << ' ' << bytes;
        }
      }
    }
  }
}

TEST(PieceWalk, BlocksTogetherTakeEveryPiece) {
  char src[50];
  char dst[50] = {};
  std::vector<DevicePiece> pieces;
  for (size_t i = 0; i < 50; ++i) {
    src[i] = static_cast<char>(i + 1);
    pieces.push_back({dst + i, src + i, 1});
  }
  for (unsigned block = 0; block < 7; ++block) {
    copy_block_lane(pieces.data(), pieces.size(), block, 7, 0, 1);
  }
  EXPECT_TRUE(std::equal(std::begin(src), std::end(src), dst));
}

}  // namespace
}  // namespace ucm::cuda_like
