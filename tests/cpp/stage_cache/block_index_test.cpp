// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/block_index.h"

#include <gtest/gtest.h>

#include <random>
#include <unordered_map>

#include "test_blocks.h"

namespace ucm::stages::cache {
namespace {

// A directory in memory of its own, and an index over it.
class IndexedSlots {
 public:
  explicit IndexedSlots(uint32_t slots)
      : memory_(SlotDirectory::bytes({slots, 1, 0})), directory_(memory_.data(), {slots, 1, 0}) {
    directory_.format(4096, 0);
  }
  BlockIndex& index() { return index_; }
  void insert(const BlockKey& key, uint32_t slot) {
    directory_.entry(slot).key = key;
    index_.insert(slot);
  }

 private:
  std::vector<std::byte> memory_;
  SlotDirectory directory_;
  BlockIndex index_{directory_};
};

TEST(BlockIndex, AgreesWithAMapUnderRandomInsertsAndErases) {
  constexpr uint32_t kSlots = 500;
  IndexedSlots slots(kSlots);
  BlockIndex& index = slots.index();
  std::unordered_map<BlockKey, uint32_t> model;
  std::vector<uint32_t> free;
  for (uint32_t i = 0; i < kSlots; ++i) free.push_back(i);
  std::mt19937_64 random(7);
  for (int step = 0; step < 200000; ++step) {
    // A table that is nearly full at times: long probe chains and wrap-around.
    const BlockKey key = {random() % 900, 0};
    const auto known = model.find(key);
    ASSERT_EQ(index.find(key), known == model.end() ? BlockIndex::kNone : known->second);
    if (known != model.end()) {
      index.erase(known->second);
      free.push_back(known->second);
      model.erase(known);
    } else if (!free.empty()) {
      slots.insert(key, free.back());
      model[key] = free.back();
      free.pop_back();
    }
  }
}

TEST(BlockIndex, BatchAnswersEqualSingleAnswersForEveryBatchLength) {
  IndexedSlots slots(64);
  const auto keys = test::make_keys(0, 100);
  for (uint32_t i = 0; i < 50; ++i) slots.insert(keys[i * 2], i);
  for (size_t length = 0; length <= keys.size(); ++length) {
    std::vector<uint32_t> found(length);
    slots.index().find_batch(std::span(keys).first(length), found);
    for (size_t i = 0; i < length; ++i) ASSERT_EQ(found[i], slots.index().find(keys[i])) << i;
  }
}

TEST(BlockIndex, NeedsAtMostFortyBytesASlotAndSixtyFourWithShardsAndAnyPolicy) {
  constexpr uint32_t kSlots = 1 << 20;
  EXPECT_LE(
      sizeof(SlotEntry) + SlotDirectory(nullptr, {kSlots, 1, 0}).table().size_bytes() / kSlots,
      40u);
  const auto names = base::eviction_policy_names();
  for (uint32_t policy = 0; policy < names.size(); ++policy) {
    constexpr size_t kConstant = 20480;  // lists of epochs
    EXPECT_LE(SlotDirectory::bytes({kSlots, 8, policy}), 62u * kSlots + kConstant) << names[policy];
    EXPECT_LE(SlotDirectory::bytes({kSlots, 16, policy}), 64u * kSlots + kConstant);
    // Small pools also have the shadows of `auto`.
    EXPECT_LE(SlotDirectory::bytes({1000, 8, policy}), 62u * 1000 + (160u << 10));
  }
}

}  // namespace
}  // namespace ucm::stages::cache
