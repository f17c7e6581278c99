// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <thread>

#include "cache_fixture.h"

namespace ucm::test {
namespace {

TEST(Cache, ReturnsTheBytesOfAMultiShardBlockFromMemory) {
  CacheOverMemory cache(cache_options(8));
  const auto keys = make_keys(0, 5);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  EXPECT_EQ(count_present(cache.store(), keys), 5u);
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_EQ(cache.below().loads, 0);
}

TEST(Cache, ShowsALayerWiseBlockOnlyWhenItsLastShardHasArrived) {
  CacheOverMemory cache(cache_options(8));
  const auto keys = make_keys(0, 4);
  for (uint32_t shard = 0; shard < 3; ++shard) {
    EXPECT_EQ(count_present(cache.store(), keys), 0u) << "before shard " << shard;
    EXPECT_EQ(cache.below().size(), 0u);
    Buffers buffers(cache.layout(), keys.size());
    for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], shard);
    const std::vector<uint32_t> shards(keys.size(), shard);
    ASSERT_TRUE(cache.store().dump(make_batch(keys, shards, buffers))->wait(kPatience).ok());
  }
  EXPECT_EQ(count_present(cache.store(), keys), 4u);
  EXPECT_EQ(cache.below().size(), 4u);
}

TEST(Cache, ADumpThatWasBrokenOffDoesNotHideTheBlockBelow) {
  CacheOverMemory cache(cache_options(2));
  const auto keys = make_keys(0, 1);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(1, 4)).ok());
  Buffers buffers(cache.layout(), keys.size());
  buffers.fill(0, keys[0], 0);
  const std::vector<uint32_t> shards = {0};
  ASSERT_TRUE(cache.store().dump(make_batch(keys, shards, buffers))->wait(kPatience).ok());
  EXPECT_EQ(count_present(cache.store(), keys), 1u);
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_EQ(cache.below().loads, 1);
}

TEST(Cache, ABrokenOffDumpThatIsAbandonedLeavesTheBlockBelow) {
  CacheOverMemory cache(cache_options(2));
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(0, 1)).ok());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(5, 4)).ok());
  Buffers wrong(cache.layout(), keys.size());
  const std::vector<uint32_t> shards = {0, 0};
  ASSERT_TRUE(cache.store().dump(make_batch(keys, shards, wrong))->wait(kPatience).ok());
  ASSERT_TRUE(cache.store().abandon(keys).ok());
  EXPECT_EQ(cache.below().size(), 5u);
  EXPECT_EQ(count_present(cache.store(), keys), 1u);
  EXPECT_EQ(load_blocks(cache.store(), make_keys(0, 1)).value(), 0u);
  // The first shard counts as not dumped: the others do not complete the block.
  std::vector<uint32_t> rest = {1, 2};
  const std::vector<BlockKey> twice = {keys[1], keys[1]};
  Buffers right(cache.layout(), 2);
  for (uint32_t i = 0; i < 2; ++i) right.fill(i, keys[1], rest[i]);
  ASSERT_TRUE(cache.store().dump(make_batch(twice, rest, right))->wait(kPatience).ok());
  EXPECT_EQ(count_present(cache.store(), keys), 1u);
}

TEST(Cache, ABlockThatIsCompleteWhenItIsAbandonedIsRemovedEverywhere) {
  CacheOverMemory cache(cache_options(4));
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(0, 2)).ok());
  ASSERT_TRUE(cache.store().abandon(make_keys(0, 1)).ok());
  EXPECT_EQ(cache.below().size(), 1u);
  EXPECT_EQ(count_present(cache.store(), make_keys(0, 2)), 1u);
}

TEST(Cache, WhatIsHereIsFoundAlthoughTheStageBelowCanNotBeAsked) {
  CacheOverMemory cache(cache_options(8));
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(0, 4)).ok());
  cache.below().fail_lookups = true;
  EXPECT_EQ(count_present(cache.store(), make_keys(0, 6)), 4u);
  EXPECT_EQ(cache.store().lookup_prefix(make_keys(0, 6)).value(), 4u);
  EXPECT_EQ(cache.metric("ucm_partial_lookups_total"), 2);
  std::vector<uint8_t> present(2);
  EXPECT_EQ(cache.store().lookup(make_keys(8, 2), present).code(), Code::timeout);
  EXPECT_EQ(cache.store().lookup_prefix(make_keys(8, 2)).status().code(), Code::timeout);
  EXPECT_EQ(cache.metric("ucm_partial_lookups_total"), 2);
}

TEST(Cache, ABlockThatIsOnlyHereInPartStaysSoWhenItIsLoaded) {
  CacheOverMemory cache(cache_options(2));
  const auto keys = make_keys(0, 1);
  for (uint32_t shard = 0; shard < 3; ++shard) {
    EXPECT_EQ(load_blocks(cache.store(), keys).status().code(), Code::not_found);
    Buffers buffers(cache.layout(), keys.size());
    buffers.fill(0, keys[0], shard);
    const std::vector<uint32_t> shards = {shard};
    ASSERT_TRUE(cache.store().dump(make_batch(keys, shards, buffers))->wait(kPatience).ok());
  }
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_EQ(cache.below().size(), 1u);
}

TEST(Cache, TakesShardsInAnyOrderWithinOneTask) {
  CacheOverMemory cache(cache_options(8));
  std::vector<BlockKey> keys;
  std::vector<uint32_t> shards;
  for (const uint32_t shard : {2u, 0u, 1u}) {
    for (uint64_t number = 0; number < 6; ++number) {
      keys.push_back(make_key(number));
      shards.push_back(shard);
    }
  }
  Buffers buffers(cache.layout(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], shards[i]);
  ASSERT_TRUE(cache.store().dump(make_batch(keys, shards, buffers))->wait(kPatience).ok());
  EXPECT_EQ(load_blocks(cache.store(), make_keys(0, 6)).value(), 0u);
}

TEST(Cache, LetsATaskLargerThanThePoolFlowThroughIt) {
  CacheOverMemory cache(cache_options(2), BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 60);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  EXPECT_EQ(cache.below().size(), 60u);
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_GT(cache.metric("ucm_evicted_blocks_total"), 100);
}

TEST(Cache, SendsSmallBlocksThatWaitedForSlotsDownTogether) {
  CacheOverMemory cache(cache_options(64), BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 640);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  EXPECT_EQ(cache.below().dumped_rows, 640);
  // How many depends on which batch below ends first; one by one it would be 640.
  EXPECT_LT(cache.below().dumps, 600);
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
}

TEST(Cache, CopiesASmallBatchBeforeTheCallReturns) {
  CacheOverMemory cache(cache_options(8), BlockLayout::make({5000}, 1, 0).value(),
                        /*with_next=*/false);
  const auto keys = make_keys(0, 4);
  Buffers buffers(cache.layout(), 4);
  for (size_t i = 0; i < 4; ++i) buffers.fill(i, keys[i], 0);
  EXPECT_TRUE(cache.store().dump(make_batch(keys, {}, buffers))->done());
  Buffers back(cache.layout(), 4);
  EXPECT_TRUE(cache.store().load(make_batch(keys, {}, back))->done());
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(back.wrong_bytes(i, keys[i], 0), 0u);
}

TEST(Cache, LetsMoreLayerWiseBlocksThanSlotsFlowThroughIt) {
  CacheOverMemory cache(cache_options(4));
  const auto keys = make_keys(0, 30);
  std::vector<TaskPtr> layers;
  std::vector<Buffers> buffers;
  for (uint32_t shard = 0; shard < 3; ++shard) {
    Buffers& layer = buffers.emplace_back(cache.layout(), keys.size());
    for (size_t i = 0; i < keys.size(); ++i) layer.fill(i, keys[i], shard);
    const std::vector<uint32_t> shards(keys.size(), shard);
    layers.push_back(cache.store().dump(make_batch(keys, shards, layer)));
  }
  for (const TaskPtr& layer : layers) EXPECT_TRUE(layer->wait(kPatience).ok());
  EXPECT_EQ(cache.below().size(), 30u);
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
}

TEST(Cache, FetchesABlockOnceForAllWhoAskForIt) {
  CacheOverMemory cache(cache_options(8));
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  CacheOverMemory* cold = &cache;
  cold->below().delay_ms = 20;
  // Push the blocks out of memory.
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(100, 8)).ok());
  cache.below().loaded_rows = 0;
  std::vector<std::thread> threads;
  std::atomic<size_t> wrong{0};
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] { wrong += load_blocks(cache.store(), keys).value(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(cache.below().loaded_rows, 3);
}

TEST(Cache, DoesNotRememberAFailedLoad) {
  CacheOverMemory cache(cache_options(8));
  const auto keys = make_keys(0, 2);
  EXPECT_EQ(load_blocks(cache.store(), keys).status().code(), Code::not_found);
  EXPECT_EQ(count_present(cache.store(), keys), 0u);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(100, 8)).ok());
  cache.below().fail_loads = true;
  EXPECT_EQ(load_blocks(cache.store(), keys).status().code(), Code::io_error);
  cache.below().fail_loads = false;
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
}

TEST(Cache, SaysWhichRowsFailedAndKeepsServingAfterTheStageBelowIsFull) {
  CacheOverMemory cache(cache_options(8), BlockLayout::make({5000}, 1, 0).value());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(0, 3)).ok());
  cache.below().fail_dumps = true;
  const auto keys = make_keys(50, 2);
  Buffers buffers(cache.layout(), 2);
  for (size_t i = 0; i < 2; ++i) buffers.fill(i, keys[i], 0);
  const TaskPtr task = cache.store().dump(make_batch(keys, {}, buffers));
  EXPECT_EQ(task->wait(kPatience).code(), Code::no_space);
  EXPECT_EQ(task->failed_rows(), (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(load_blocks(cache.store(), make_keys(0, 3)).value(), 0u);
}

TEST(Cache, ReleasesTheCallersMemoryBeforeTheStageBelowIsDone) {
  CacheOverMemory cache(cache_options(8), BlockLayout::make({5000}, 1, 0).value());
  cache.below().hold();
  const auto keys = make_keys(0, 4);
  TaskPtr task;
  {
    Buffers buffers(cache.layout(), 4);
    for (size_t i = 0; i < 4; ++i) buffers.fill(i, keys[i], 0);
    task = cache.store().dump(make_batch(keys, {}, buffers));
    ASSERT_TRUE(task->wait_released(kPatience).ok());
    EXPECT_FALSE(task->done());
  }
  cache.below().let_go();
  ASSERT_TRUE(task->wait(kPatience).ok());
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
}

TEST(Cache, EndsWaitingRowsAtOnceWhenTheyAreCancelled) {
  CacheOverMemory cache(cache_options(2), BlockLayout::make({5000}, 1, 0).value());
  cache.below().hold();
  const auto keys = make_keys(0, 6);
  Buffers buffers(cache.layout(), 6);
  for (size_t i = 0; i < 6; ++i) buffers.fill(i, keys[i], 0);
  const TaskPtr task = cache.store().dump(make_batch(keys, {}, buffers));
  EXPECT_EQ(task->wait_released(std::chrono::milliseconds(50)).code(), Code::timeout);
  task->cancel();
  EXPECT_EQ(task->wait_released(kPatience).code(), Code::cancelled);
  EXPECT_TRUE(task->released());
  cache.below().let_go();
  EXPECT_EQ(task->wait(kPatience).code(), Code::cancelled);
  EXPECT_EQ(task->failed_rows().size(), 4u);
  EXPECT_EQ(count_present(cache.store(), keys), 2u);
}

TEST(Cache, ForgetsABlockThatIsRemovedWhileItIsBeingWritten) {
  CacheOverMemory cache(cache_options(8), BlockLayout::make({5000}, 1, 0).value());
  cache.below().hold();
  const auto keys = make_keys(0, 1);
  Buffers buffers(cache.layout(), 1);
  buffers.fill(0, keys[0], 0);
  const TaskPtr task = cache.store().dump(make_batch(keys, {}, buffers));
  ASSERT_TRUE(task->wait_released(kPatience).ok());
  std::thread remover([&] { EXPECT_TRUE(cache.store().remove(keys).ok()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  cache.below().let_go();
  remover.join();
  EXPECT_TRUE(task->wait(kPatience).ok());
  cache.store().close();
  EXPECT_EQ(cache.below().size(), 0u);
}

TEST(Cache, ForgetsABlockThatIsRemovedWhileItIsBeingFetched) {
  CacheOverMemory cache(cache_options(4), BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 1);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(100, 4)).ok());
  cache.below().hold();
  Buffers buffers(cache.layout(), 1);
  const TaskPtr task = cache.store().load(make_batch(keys, {}, buffers));
  while (cache.below().loaded_rows == 0) std::this_thread::yield();
  ASSERT_TRUE(cache.store().remove(keys).ok());
  cache.below().let_go();
  EXPECT_EQ(task->wait(kPatience).code(), Code::cancelled);
  EXPECT_EQ(count_present(cache.store(), keys), 0u);
}

TEST(Cache, WritesADumpThatWaitedForAFetchWhichFails) {
  CacheOverMemory cache(cache_options(4), BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 1);
  Buffers buffers(cache.layout(), 1);
  Buffers back(cache.layout(), 1);
  buffers.fill(0, keys[0], 0);
  cache.below().hold();
  const TaskPtr load = cache.store().load(make_batch(keys, {}, back));
  while (cache.below().loaded_rows == 0) std::this_thread::yield();
  const TaskPtr dump = cache.store().dump(make_batch(keys, {}, buffers));
  cache.below().let_go();
  EXPECT_EQ(load->wait(kPatience).code(), Code::not_found);
  EXPECT_TRUE(dump->wait(kPatience).ok());
  EXPECT_EQ(cache.below().size(), 1u);
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
}

TEST(Cache, DoesNotTakeASlotFromABlockWhoseShardsAreComing) {
  CacheOverMemory cache(cache_options(2));
  const auto keys = make_keys(0, 3);
  const auto dump_shard = [&](uint64_t block, uint32_t shard) {
    Buffers buffers(cache.layout(), 1);
    buffers.fill(0, keys[block], shard);
    const std::vector<uint32_t> shards = {shard};
    return cache.store().dump(make_batch({&keys[block], 1}, shards, buffers))->wait(kPatience);
  };
  ASSERT_TRUE(dump_shard(0, 0).ok());
  ASSERT_TRUE(dump_shard(1, 0).ok());
  Buffers whole(cache.layout(), 3);
  const std::vector<BlockKey> third(3, keys[2]);
  const std::vector<uint32_t> all = {0, 1, 2};
  for (uint32_t shard = 0; shard < 3; ++shard) whole.fill(shard, keys[2], shard);
  const TaskPtr waiting = cache.store().dump(make_batch(third, all, whole));
  EXPECT_FALSE(waiting->released()) << "both slots are in use";
  ASSERT_TRUE(dump_shard(0, 1).ok());
  ASSERT_TRUE(dump_shard(0, 2).ok());
  EXPECT_EQ(count_present(cache.store(), {keys[0]}), 1u);
  EXPECT_TRUE(waiting->wait(kPatience).ok());
  EXPECT_EQ(load_blocks(cache.store(), {keys[0], keys[2]}).value(), 0u);
}

TEST(Cache, FindsAPrefixOfWhichEachStageHoldsParts) {
  CacheOverMemory cache(cache_options(4), BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 11);
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(0, 10)).ok());
  EXPECT_EQ(load_blocks(cache.store(), make_keys(4, 2)).value(), 0u);
  ASSERT_TRUE(cache.below().remove(make_keys(4, 2)).ok());  // as when it has evicted them
  EXPECT_EQ(cache.store().lookup_prefix(keys).value(), 10u);
  std::vector<uint8_t> present(keys.size());
  ASSERT_TRUE(cache.store().lookup(keys, present).ok());
  EXPECT_EQ(present, (std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0}));
}

TEST(Cache, WritesABlockAnewThatTheStageBelowHasRefused) {
  CacheOverMemory cache(cache_options(8), BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 2);
  cache.below().fail_dumps = true;
  EXPECT_EQ(dump_blocks(cache.store(), keys).code(), Code::no_space);
  EXPECT_EQ(count_present(cache.store(), keys), 0u);
  cache.below().fail_dumps = false;
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  EXPECT_EQ(cache.below().size(), 2u);
}

TEST(Cache, DropsTheTailOfAChainBeforeItsHead) {
  CacheOverMemory cache(cache_options(4), BlockLayout::make({5000}, 1, 0).value(),
                        /*with_next=*/false);
  const auto chain = make_keys(0, 4);
  ASSERT_TRUE(dump_blocks(cache.store(), chain).ok());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(100, 2)).ok());
  EXPECT_EQ(cache.store().lookup_prefix(chain).value(), 2u);
}

TEST(Cache, DropsTheTailOfAChainInSeveralBatchesBeforeItsHeadOnceItIsRenewed) {
  CacheOverMemory cache(cache_options(4), BlockLayout::make({5000}, 1, 0).value());
  const auto chain = make_keys(0, 4);
  for (uint64_t i = 0; i < 4; ++i) {
    ASSERT_TRUE(dump_blocks(cache.store(), make_keys(i, 1)).ok());
  }
  ASSERT_TRUE(cache.store().renew(make_keys(0, 6)).ok());
  EXPECT_EQ(cache.below().renewals, 1);
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(100, 2)).ok());
  ASSERT_TRUE(cache.below().remove(chain).ok());
  EXPECT_EQ(cache.store().lookup_prefix(chain).value(), 2u);
}

TEST(Cache, AnAbandonedBlockThatItHasForgottenIsRemovedBelow) {
  CacheOverMemory cache(cache_options(2));
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(0, 1)).ok());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(5, 2)).ok());
  // Its bytes may have been wrong all the same.
  ASSERT_TRUE(cache.store().abandon(make_keys(0, 1)).ok());
  EXPECT_EQ(count_present(cache.store(), make_keys(0, 1)), 0u);
  EXPECT_EQ(cache.below().size(), 2u);
}

TEST(Cache, ReturnsFromCloseWhileTheStageBelowHangs) {
  CacheOverMemory cache(cache_options(8, /*timeout_s=*/0.2),
                        BlockLayout::make({5000}, 1, 0).value());
  cache.below().hold();
  const auto keys = make_keys(0, 1);
  Buffers buffers(cache.layout(), 1);
  const TaskPtr task = cache.store().dump(make_batch(keys, {}, buffers));
  cache.store().close();
  EXPECT_TRUE(task->done());
  EXPECT_EQ(cache.store().dump(make_batch(keys, {}, buffers))->status().code(), Code::unavailable);
}

TEST(Cache, RefusesABatchThatDoesNotFitTheLayout) {
  CacheOverMemory cache(cache_options(8));
  const auto keys = make_keys(0, 2);
  Buffers buffers(cache.layout(), 2);
  Batch batch = make_batch(keys, {}, buffers);
  batch.addresses = batch.addresses.first(3);
  EXPECT_EQ(cache.store().dump(batch)->status().code(), Code::invalid_argument);
  const std::vector<uint32_t> shards = {0, 3};
  EXPECT_EQ(cache.store().dump(make_batch(keys, shards, buffers))->status().code(),
            Code::invalid_argument);
}

TEST(Cache, WithoutRetainingGivesEverySlotBackWhenItsBlockIsDone) {
  Options options = cache_options(4);
  options["retain"] = false;
  CacheOverMemory cache(options, BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 20);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_EQ(cache.below().loaded_rows, 20);
  EXPECT_EQ(cache.metric("ucm_evicted_blocks_total"), 0);
}

TEST(Cache, BringsPrefetchedBlocksUpBeforeTheyAreLoaded) {
  CacheOverMemory cache(cache_options(4), BlockLayout::make({5000}, 1, 0).value());
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(cache.store(), keys).ok());
  ASSERT_TRUE(dump_blocks(cache.store(), make_keys(100, 4)).ok());
  ASSERT_TRUE(cache.store().prefetch(keys).ok());
  for (int i = 0; i < 1000 && cache.below().loaded_rows < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_EQ(load_blocks(cache.store(), keys).value(), 0u);
  EXPECT_EQ(cache.below().loaded_rows, 3);
}

}  // namespace
}  // namespace ucm::test
