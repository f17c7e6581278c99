// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/block_index.h"

#include <gtest/gtest.h>

#include <random>
#include <unordered_map>

#include "test_blocks.h"

namespace ucm::stages::cache {
namespace {

TEST(BlockIndex, AgreesWithAMapUnderRandomInsertsAndErases) {
  constexpr uint32_t kSlots = 500;
  BlockIndex index(kSlots);
  std::unordered_map<BlockKey, uint32_t> model;
  std::vector<uint32_t> free;
  for (uint32_t i = 0; i < kSlots; ++i) free.push_back(i);
  std::mt19937_64 random(7);
  for (int step = 0; step < 200000; ++step) {
    // Few distinct keys with low entropy in the home position: long probe chains and wrap-around.
    const BlockKey key = {random() % 900, 0};
    const auto known = model.find(key);
    ASSERT_EQ(index.find(key), known == model.end() ? BlockIndex::kNone : known->second);
    if (known != model.end()) {
      index.erase(known->second);
      free.push_back(known->second);
      model.erase(known);
    } else if (!free.empty()) {
      index.insert(key, free.back());
      model[key] = free.back();
      free.pop_back();
    }
    ASSERT_EQ(index.size(), model.size());
  }
}

TEST(BlockIndex, BatchAnswersEqualSingleAnswersForEveryBatchLength) {
  BlockIndex index(64);
  const auto keys = test::make_keys(0, 100);
  for (uint32_t i = 0; i < 50; ++i) index.insert(keys[i * 2], i);
  for (size_t length = 0; length <= keys.size(); ++length) {
    std::vector<uint32_t> slots(length);
    index.find_batch(std::span(keys).first(length), slots);
    for (size_t i = 0; i < length; ++i) ASSERT_EQ(slots[i], index.find(keys[i])) << i;
  }
}

TEST(BlockIndex, NeedsAtMostFortyBytesASlot) {
  constexpr uint32_t kSlots = 1 << 20;
  EXPECT_LE(BlockIndex(kSlots).memory_bytes(), 40u * kSlots);
}

}  // namespace
}  // namespace ucm::stages::cache
