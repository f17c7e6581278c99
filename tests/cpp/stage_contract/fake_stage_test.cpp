// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "store/stage.h"
#include "test_blocks.h"

namespace ucm::test {
namespace {

class FakeStageTest : public ::testing::Test {
 protected:
  Result<StorePtr> try_open(const Options& options, const BlockLayout& layout) {
    registry_ = std::make_shared<base::MetricRegistry>();
    StageContext context;
    context.options = &options;
    context.layout = layout;
    context.metrics = registry_;
    return find_stage("fake")->make(std::move(context));
  }
  StorePtr open(const Options& options) {
    return std::move(try_open(options, BlockLayout::make({100, 200}, 2, 1).value())).value();
  }
  double metric(const std::string& name) const {
    double sum = 0;
    for (const MetricSample& sample : registry_->samples()) {
      if (sample.name == name) sum += sample.value;
    }
    return sum;
  }
  std::shared_ptr<base::MetricRegistry> registry_;
};

TEST_F(FakeStageTest, TheTailOfARenewedChainLeavesBeforeItsHead) {
  const StorePtr store = open({{"buffer_number", int64_t{10}}, {"eviction_policy", "lru"}});
  for (uint64_t i = 0; i < 10; i += 2) ASSERT_TRUE(dump_blocks(*store, make_keys(i, 2)).ok());
  ASSERT_TRUE(store->renew(make_keys(0, 12)).ok());
  ASSERT_TRUE(dump_blocks(*store, make_keys(100, 3)).ok());
  EXPECT_EQ(store->lookup_prefix(make_keys(0, 10)).value(), 7u);
  EXPECT_EQ(count_present(*store, make_keys(7, 3)), 0u);
}

TEST_F(FakeStageTest, TheBlockThatWasUsedLongestAgoLeavesFirst) {
  const StorePtr store = open({{"buffer_number", int64_t{10}}});
  ASSERT_TRUE(dump_blocks(*store, make_keys(0, 10)).ok());
  ASSERT_TRUE(load_blocks(*store, {make_key(9)}).ok());
  ASSERT_TRUE(dump_blocks(*store, make_keys(100, 5)).ok());
  // In one batch the tail counts as older than the head; the load saved the very last block.
  EXPECT_EQ(count_present(*store, make_keys(0, 4)), 4u);
  EXPECT_EQ(count_present(*store, make_keys(4, 5)), 0u);
  EXPECT_EQ(count_present(*store, {make_key(9)}), 1u);
  EXPECT_EQ(count_present(*store, make_keys(100, 5)), 5u);
  EXPECT_EQ(metric("ucm_evicted_blocks_total"), 5);
  EXPECT_EQ(metric("ucm_blocks"), 10);
  EXPECT_EQ(metric("ucm_used_bytes"), 10 * 600);
  EXPECT_EQ(metric("ucm_capacity_bytes"), 10 * 600);
}

TEST_F(FakeStageTest, ALoadLeavesTheMemoryAsItIs) {
  const StorePtr store = open({});
  const auto keys = make_keys(0, 1);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  Buffers buffers(store->layout(), 1);
  buffers.wipe();
  ASSERT_TRUE(store->load(make_batch(keys, {}, buffers))->wait(kPatience).ok());
  for (size_t i = 0; i < 100; ++i) EXPECT_EQ(buffers.piece(0, 0)[i], std::byte{0xEE});
  EXPECT_EQ(metric("ucm_transfer_bytes_total"), 0);
}

TEST_F(FakeStageTest, TheSmallestCapacityCounts) {
  const StorePtr store = open({{"buffer_number", int64_t{100}},
                               {"cache_capacity", int64_t{50}},
                               {"capacity_bytes", int64_t{600 * 7}}});
  ASSERT_TRUE(dump_blocks(*store, make_keys(0, 60)).ok());
  EXPECT_EQ(metric("ucm_blocks"), 7);
}

TEST_F(FakeStageTest, RemovedBlocksMakeRoom) {
  const StorePtr store = open({{"buffer_number", int64_t{4}}});
  for (int round = 0; round < 10; ++round) {
    ASSERT_TRUE(dump_blocks(*store, make_keys(0, 4)).ok());
    ASSERT_TRUE(store->remove(make_keys(0, 4)).ok());
  }
  EXPECT_EQ(metric("ucm_evicted_blocks_total"), 0);
  EXPECT_EQ(metric("ucm_blocks"), 0);
}

TEST_F(FakeStageTest, PinnedBlocksStayUpToTheirShare) {
  const StorePtr store = open({{"buffer_number", int64_t{10}}, {"pin_limit", 0.3}});
  ASSERT_TRUE(dump_blocks(*store, make_keys(0, 10)).ok());
  std::vector<uint8_t> pinned(6);
  ASSERT_TRUE(
      store
          ->pin({{make_key(9), make_key(500), make_key(8), make_key(7), make_key(6), make_key(9)}},
                pinned)
          .ok());
  EXPECT_EQ(pinned, (std::vector<uint8_t>{1, 0, 1, 1, 0, 1}));
  ASSERT_TRUE(store->unpin({{make_key(8), make_key(500)}}).ok());
  EXPECT_EQ(metric("ucm_pinned_blocks"), 2);
  ASSERT_TRUE(dump_blocks(*store, make_keys(100, 8)).ok());
  EXPECT_EQ(count_present(*store, make_keys(0, 10)), 2u);
  EXPECT_EQ(count_present(*store, {make_key(7), make_key(9)}), 2u);
  ASSERT_TRUE(store->remove({{make_key(7), make_key(9)}}).ok());
  EXPECT_EQ(metric("ucm_pinned_blocks"), 0);
  EXPECT_EQ(count_present(*store, make_keys(100, 8)), 8u);
}

TEST_F(FakeStageTest, WhereEverythingIsPinnedNothingComesInAndNothingLeaves) {
  const StorePtr store = open({{"buffer_number", int64_t{1}}});
  ASSERT_TRUE(dump_blocks(*store, {make_key(1)}).ok());
  std::vector<uint8_t> pinned(1);
  ASSERT_TRUE(store->pin({{make_key(1)}}, pinned).ok());
  EXPECT_EQ(pinned[0], 1);
  ASSERT_TRUE(dump_blocks(*store, {make_key(2)}).ok());
  EXPECT_EQ(count_present(*store, {make_key(1)}), 1u);
  EXPECT_EQ(count_present(*store, {make_key(2)}), 0u);
}

TEST_F(FakeStageTest, ACapacityOfNothingIsRefused) {
  for (const char* key : {"buffer_number", "cache_capacity", "fake.buffer_number"}) {
    const Options options = {{key, int64_t{0}}};
    EXPECT_EQ(try_open(options, BlockLayout::make({8}, 1, 0).value()).status().code(),
              Code::invalid_argument);
  }
}

}  // namespace
}  // namespace ucm::test
