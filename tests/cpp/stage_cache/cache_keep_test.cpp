// SPDX-License-Identifier: Apache-2.0
// What a Cache keeps and what it does not let in: pins and admission.
#include <gtest/gtest.h>

#include "cache_fixture.h"

namespace ucm::test {
namespace {

const BlockLayout kSmall = BlockLayout::make({5000}, 1, 0).value();

size_t count_pinned(Store& store, const std::vector<BlockKey>& keys) {
  std::vector<uint8_t> pinned(keys.size());
  EXPECT_TRUE(store.pin(keys, pinned).ok());
  return static_cast<size_t>(std::count(pinned.begin(), pinned.end(), 1));
}

CacheOverMemory alone(const Options& options) { return CacheOverMemory(options, kSmall, false); }

TEST(CachePins, APinnedBlockOutlivesAnyNumberOfOthers) {
  CacheOverMemory cache = alone(cache_options(10));
  const auto pinned = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(cache.store(), pinned).ok());
  EXPECT_EQ(count_pinned(cache.store(), pinned), 3u);
  EXPECT_EQ(cache.metric("ucm_pinned_blocks"), 3);
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(100, 200)).ok());
  EXPECT_EQ(count_present(cache.store(), pinned), 3u);
  EXPECT_EQ(load_blocks(cache.store(), pinned).value(), 0u);
  ASSERT_TRUE(cache.store().unpin(pinned).ok());
  EXPECT_EQ(cache.metric("ucm_pinned_blocks"), 0);
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(500, 200)).ok());
  EXPECT_EQ(count_present(cache.store(), pinned), 0u);
}

TEST(CachePins, NoMoreThanTheLimitArePinnedAndTheOthersAreAnswered) {
  Options options = cache_options(10);
  options["pin_limit"] = 0.4;
  CacheOverMemory cache = alone(options);
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(0, 8)).ok());
  EXPECT_EQ(count_pinned(cache.store(), make_keys(0, 8)), 4u);
  // Again is no second mark, and what goes makes room for another one.
  EXPECT_EQ(count_pinned(cache.store(), make_keys(0, 8)), 4u);
  ASSERT_TRUE(cache.store().unpin(make_keys(0, 1)).ok());
  EXPECT_EQ(count_pinned(cache.store(), make_keys(7, 1)), 1u);
  ASSERT_TRUE(cache.store().remove(make_keys(1, 1)).ok());
  EXPECT_EQ(count_present(cache.store(), make_keys(1, 1)), 0u);
  EXPECT_EQ(count_pinned(cache.store(), make_keys(6, 1)), 1u);
}

TEST(CachePins, WhatIsNotStoredIsNotPinned) {
  CacheOverMemory cache = alone(cache_options(10));
  EXPECT_EQ(count_pinned(cache.store(), make_keys(0, 5)), 0u);
  EXPECT_TRUE(cache.store().unpin(make_keys(0, 5)).ok());
}

TEST(CachePins, RefusesALimitThatWouldLeaveNoRoom) {
  Options options = cache_options(10);
  options["pin_limit"] = 0.95;
  StageContext context;
  context.options = &options;
  context.layout = kSmall;
  context.metrics = std::make_shared<base::MetricRegistry>();
  context.device = open_device("cpu", 0).value();
  EXPECT_EQ(find_stage("Cache")->make(std::move(context)).status().code(), Code::invalid_argument);
}

TEST(CacheAdmission, ABlockIsKeptWhenItComesForTheSecondTime) {
  Options options = cache_options(20);
  options["admission"] = std::string("second_use");
  CacheOverMemory cache(options, kSmall);
  const auto keys = make_keys(0, 10);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  EXPECT_EQ(cache.metric("ucm_blocks"), 0) << "the first time it only passes";
  EXPECT_EQ(cache.metric("ucm_refused_blocks_total"), 10);
  EXPECT_EQ(cache.below().size(), 10u);
  EXPECT_EQ(count_present(cache.store(), keys), 10u) << "it is stored below";
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_EQ(cache.metric("ucm_blocks"), 10);
  const int loads = cache.below().loads;
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_EQ(cache.below().loads, loads) << "from here on it is in memory";
}

TEST(CacheAdmission, WhatIsReadOnceDoesNotPushOutWhatIsUsedAgain) {
  Options options = cache_options(20);
  options["admission"] = std::string("second_use");
  CacheOverMemory cache = alone(options);
  const auto used = make_keys(0, 10);
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(dump_blocks(cache.store(), used).ok());
  for (uint64_t i = 0; i < 50; ++i) {
    ASSERT_TRUE(dump_blocks(cache.store(), make_keys(1000 + 8 * i, 8)).ok());
  }
  EXPECT_EQ(count_present(cache.store(), used), 10u);
}

}  // namespace
}  // namespace ucm::test
