// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <filesystem>
#include <random>
#include <thread>

#include "cache_fixture.h"
#include "processes.h"
#include "stages/cache/pool_memory.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

// Children are made while this process has no thread but its own: a process that was forked from
// one with several may not start any.
class SharedCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "ucm-share-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  Options options(int64_t slots = 64) const {
    Options options = cache_options(slots);
    options["share"] = true;
    options["unique_id"] = folder_;
    return options;
  }
  // A Cache alone: its blocks are nowhere but in the pool.
  std::unique_ptr<CacheOverMemory> cache(int64_t slots = 64) const {
    return std::make_unique<CacheOverMemory>(options(slots), layout_, /*with_next=*/false);
  }
  std::unique_ptr<Pipeline> pipeline(const std::string& spec, bool read_only = false) const {
    PipelineConfig config;
    config.spec = spec;
    config.options = options();
    if (spec != "Cache") config.options["storage_backends"] = folder_ + "/store";
    config.layout = layout_;
    config.read_only = read_only;
    auto opened = Pipeline::open(config);
    EXPECT_TRUE(opened.ok()) << opened.status().to_string();
    return std::move(opened).value();
  }
  static double metric(const Pipeline& store, const std::string& name, const std::string& stage,
                       const std::string& direction) {
    for (const MetricSample& sample : store.metrics()) {
      size_t fits = 0;
      for (const auto& [key, value] : sample.labels) {
        fits += (key == "stage" && value == stage) || (key == "direction" && value == direction);
      }
      if (sample.name == name && fits == 2) return sample.value;
    }
    return -1;
  }

  const BlockLayout layout_ = BlockLayout::make({1000, 3000}, 3, 5).value();
  std::string folder_;
};

Status dump_shard(CacheOverMemory& cache, const std::vector<BlockKey>& keys, uint32_t shard) {
  Buffers buffers(cache.layout(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], shard);
  const std::vector<uint32_t> shards(keys.size(), shard);
  return cache.store().dump(make_batch(keys, shards, buffers))->wait(kPatience);
}

std::vector<uint8_t> present_in(Store& store, const std::vector<BlockKey>& keys) {
  std::vector<uint8_t> present(keys.size());
  EXPECT_TRUE(store.lookup(keys, present).ok());
  return present;
}

TEST_F(SharedCacheTest, BlocksThatOneProcessDumpsAreLoadedByAnother) {
  const auto keys = make_keys(0, 20);
  Step step;
  Child child([&] {
    const auto theirs = cache();
    if (!dump_blocks(theirs->store(), keys).ok()) return 1;
    step.set(1);
    step.await(2);
    return 0;
  });
  step.await(1);
  const auto mine = cache();
  EXPECT_EQ(count_present(mine->store(), make_keys(0, 25)), 20u);
  EXPECT_EQ(load_blocks(mine->store(), keys).value(), 0u);
  step.set(2);
  ASSERT_EQ(child.wait(), 0);
  EXPECT_EQ(load_blocks(mine->store(), keys).value(), 0u) << "after its maker has left";
}

TEST_F(SharedCacheTest, AStoreForLookupsSeesPoolsThatAreMadeAfterIt) {
  const auto scheduler = std::make_unique<CacheOverMemory>(options(), BlockLayout(), false);
  const auto keys = make_keys(0, 4);
  EXPECT_EQ(count_present(scheduler->store(), keys), 0u);
  std::vector<std::unique_ptr<CacheOverMemory>> workers;
  workers.push_back(cache());
  ASSERT_TRUE(dump_blocks(workers[0]->store(), make_keys(0, 2)).ok());
  EXPECT_EQ(scheduler->store().lookup_prefix(keys).value(), 2u);
  // Ranks whose blocks differ in size have a pool each.
  workers.push_back(
      std::make_unique<CacheOverMemory>(options(), BlockLayout::make({700}, 1, 5).value(), false));
  ASSERT_TRUE(dump_blocks(workers[1]->store(), make_keys(2, 2)).ok());
  EXPECT_EQ(scheduler->store().lookup_prefix(keys).value(), 4u);
  ASSERT_TRUE(scheduler->store().remove(make_keys(1, 1)).ok());
  EXPECT_EQ(count_present(workers[0]->store(), make_keys(0, 2)), 1u);
  EXPECT_EQ(scheduler->store().lookup_prefix(keys).value(), 1u);
}

TEST_F(SharedCacheTest, ABlockThatAStoreForLookupsPinsOutlivesAnyNumberOfOthers) {
  const auto scheduler = std::make_unique<CacheOverMemory>(options(), BlockLayout(), false);
  const auto worker = cache(10);
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(worker->store(), keys).ok());
  std::vector<uint8_t> pinned(5);
  ASSERT_TRUE(scheduler->store().pin(make_keys(0, 5), pinned).ok());
  EXPECT_EQ(pinned, (std::vector<uint8_t>{1, 1, 1, 0, 0}));
  ASSERT_TRUE(dump_blocks(worker->store(), make_keys(100, 200)).ok());
  EXPECT_EQ(count_present(worker->store(), keys), 3u);
  EXPECT_EQ(worker->metric("ucm_pinned_blocks"), 3);
  ASSERT_TRUE(scheduler->store().unpin(keys).ok());
  ASSERT_TRUE(dump_blocks(worker->store(), make_keys(500, 200)).ok());
  EXPECT_EQ(count_present(worker->store(), keys), 0u);
}

TEST_F(SharedCacheTest, ALayoutWithAnotherMeaningHasAPoolOfItsOwn) {
  const auto mine = cache();
  ASSERT_TRUE(dump_blocks(mine->store(), make_keys(0, 2)).ok());
  CacheOverMemory other(options(), BlockLayout::make({1000, 3000}, 3, 6).value(), false);
  EXPECT_EQ(count_present(other.store(), make_keys(0, 2)), 0u);
}

TEST_F(SharedCacheTest, ProcessesContributeShardsOfTheSameBlocks) {
  const auto keys = make_keys(0, 6);
  Step step;
  Child child([&] {
    step.await(1);
    const auto theirs = cache();
    if (!dump_shard(*theirs, keys, 0).ok()) return 1;
    return count_present(theirs->store(), keys) == 0 ? 0 : 2;
  });
  const auto mine = cache();
  ASSERT_TRUE(dump_shard(*mine, keys, 1).ok());
  step.set(1);
  ASSERT_EQ(child.wait(), 0);
  EXPECT_EQ(count_present(mine->store(), keys), 0u) << "shard 2 is missing";
  ASSERT_TRUE(dump_shard(*mine, keys, 2).ok());
  EXPECT_EQ(count_present(mine->store(), keys), 6u);
  EXPECT_EQ(load_blocks(mine->store(), keys).value(), 0u);
}

TEST_F(SharedCacheTest, AFetchWhoseProcessDiesIsMadeByOneThatWaitsForIt) {
  const auto keys = make_keys(0, 3);
  const std::vector<uint32_t> shards(3, 0);
  Step step;
  Child child([&] {
    CacheOverMemory theirs(options(), layout_);
    theirs.below().hold();
    Buffers buffers(layout_, 3);
    const TaskPtr task = theirs.store().load(make_batch(keys, shards, buffers));
    step.set(1);
    ::pause();
    return 0;
  });
  step.await(1);
  CacheOverMemory mine(options(), layout_);
  Buffers content(layout_.flat(), 3);
  for (size_t i = 0; i < 3; ++i) content.fill(i, keys[i], 0);
  ASSERT_TRUE(mine.below().dump(make_batch(keys, {}, content))->wait(kPatience).ok());
  Buffers buffers(layout_, 3);
  const TaskPtr task = mine.store().load(make_batch(keys, shards, buffers));
  EXPECT_EQ(task->wait(std::chrono::milliseconds(200)).code(), Code::timeout);
  EXPECT_EQ(mine.below().loaded_rows, 0) << "the other process is at work on it";
  ASSERT_TRUE(child.kill());
  ASSERT_TRUE(task->wait(kPatience).ok()) << task->status().to_string();
  EXPECT_EQ(mine.below().loaded_rows, 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(buffers.wrong_bytes(i, keys[i], 0), 0u);
}

TEST_F(SharedCacheTest, ADumpIsDoneOnlyWhenTheBlockIsWrittenDownWhoeverDoesIt) {
  const auto keys = make_keys(0, 3);
  Step step;
  Child child([&] {
    CacheOverMemory theirs(options(), layout_);
    theirs.below().hold();
    std::thread dump([&] { (void)dump_blocks(theirs.store(), keys); });
    while (count_present(theirs.store(), keys) < 3) std::this_thread::yield();
    step.set(1);
    ::pause();
    return 0;
  });
  step.await(1);
  CacheOverMemory mine(options(), layout_);
  EXPECT_EQ(load_blocks(mine.store(), keys).value(), 0u) << "it is readable meanwhile";
  Status done = make_status(Code::internal, "still open");
  std::thread dump([&] { done = dump_blocks(mine.store(), keys); });
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  EXPECT_EQ(mine.below().dumped_rows, 0);
  EXPECT_TRUE(child.kill());
  dump.join();
  EXPECT_TRUE(done.ok()) << done.to_string();
  EXPECT_EQ(mine.below().size(), 3u);
}

TEST_F(SharedCacheTest, ARowThatWaitsForAnotherProcessEndsWhenTheStoreCloses) {
  const auto keys = make_keys(0, 1);
  CacheOverMemory mine(options(), layout_);
  CacheOverMemory theirs(options(), layout_);
  theirs.below().hold();
  Buffers buffers(layout_, 1);
  const TaskPtr held = theirs.store().load(make_batch(keys, {}, buffers));
  Buffers own(layout_, 1);
  const TaskPtr waiting = mine.store().load(make_batch(keys, {}, own));
  const TaskPtr cancelled = mine.store().load(make_batch(keys, {}, own));
  cancelled->cancel();
  EXPECT_EQ(cancelled->wait(kPatience).code(), Code::cancelled);
  EXPECT_FALSE(waiting->done());
  mine.store().close();
  EXPECT_EQ(waiting->status().code(), Code::unavailable);
  theirs.below().let_go();
  EXPECT_EQ(held->wait(kPatience).code(), Code::not_found);
}

TEST_F(SharedCacheTest, ARowThatFoundNoSlotGoesOnWhenAnotherProcessLetsOneGo) {
  Step step;
  Child child([&] {
    CacheOverMemory theirs(options(2), layout_);
    theirs.below().hold();
    Buffers buffers(layout_, 2);
    const std::vector<uint32_t> shards(2, 0);
    const auto keys = make_keys(0, 2);
    const TaskPtr task = theirs.store().load(make_batch(keys, shards, buffers));
    step.set(1);
    step.await(2);
    theirs.below().let_go();
    (void)task->wait(kPatience);
    return 0;
  });
  step.await(1);
  CacheOverMemory mine(options(2), layout_);
  const auto keys = make_keys(10, 1);
  Buffers buffers(layout_, 1);
  buffers.fill(0, keys[0], 0);
  const TaskPtr dump = mine.store().dump(make_batch(keys, {}, buffers));
  EXPECT_EQ(dump->wait(std::chrono::milliseconds(100)).code(), Code::timeout);
  step.set(2);
  EXPECT_TRUE(dump->wait(kPatience).ok());
  EXPECT_EQ(child.wait(), 0);
}

class SharedReadsTest : public SharedCacheTest,
                        public ::testing::WithParamInterface<const char*> {};

TEST_P(SharedReadsTest, EightProcessesThatLoadTheSameBlocksReadTheDiskOnce) {
  const auto keys = make_keys(0, 40);
  const std::string stage = std::string(GetParam()).substr(6);
  {
    // Written by a process without the pool, so that it starts empty.
    PipelineConfig config;
    config.spec = stage;
    config.options = {{"storage_backends", folder_ + "/store"}, {"buffer_number", int64_t{64}}};
    config.layout = layout_;
    ASSERT_TRUE(dump_blocks(*Pipeline::open(config).value(), keys).ok());
  }
  Step ready;
  Step loaded;
  SharedValue<std::atomic<int>> read_below;
  std::vector<Child> ranks;
  for (int i = 0; i < 8; ++i) {
    ranks.emplace_back([&] {
      const auto store = pipeline(GetParam(), /*read_only=*/true);
      ready.add();
      ready.await(8);
      const auto wrong = load_blocks(*store, keys);
      if (!wrong.ok() || wrong.value() != 0) return 1;
      *read_below += static_cast<int>(metric(*store, "ucm_transfer_blocks_total", stage, "load"));
      // A rank that leaves early must not take the pool with it.
      loaded.add();
      loaded.await(8);
      return 0;
    });
  }
  for (Child& rank : ranks) EXPECT_EQ(rank.wait(), 0);
  EXPECT_EQ(*read_below, 40);
}

INSTANTIATE_TEST_SUITE_P(Storage, SharedReadsTest, ::testing::Values("Cache|Posix", "Cache|Disk"),
                         [](const auto& info) { return std::string(info.param).substr(6); });

// Dumps, loads and removes blocks at random until it is killed. Leaves when it meets a wrong byte.
int work_until_killed(CacheOverMemory* cache, uint64_t seed) {
  std::mt19937_64 random(seed);
  while (true) {
    const auto keys = make_keys(random() % 40, 1 + random() % 6);
    const uint64_t what = random() % 8;
    if (what < 4) {
      // A removal by another process may fail it; that is no harm.
      (void)dump_blocks(cache->store(), keys);
    } else if (what < 7) {
      for (const BlockKey& key : keys) {
        const auto wrong = load_blocks(cache->store(), {key});
        if (wrong.ok() && wrong.value() != 0) return 1;
      }
    } else {
      (void)cache->store().remove(keys);
    }
  }
}

// What the dead ones left is whole, and what they were at work on can be stored again. 0: right.
int check_after_kills(CacheOverMemory* cache) {
  const auto keys = make_keys(0, 46);
  for (const BlockKey& key : keys) {
    if (count_present(cache->store(), {key}) == 0) continue;
    const auto wrong = load_blocks(cache->store(), {key});
    if (!wrong.ok()) return 1;
    if (wrong.value() != 0) return 2;
  }
  if (!dump_blocks(cache->store(), keys).ok()) return 3;
  const auto wrong = load_blocks(cache->store(), keys);
  if (!wrong.ok()) return cache->metric("ucm_evicted_blocks_total") == 0 ? 4 : 6;
  if (wrong.value() != 0) return 5;
  // Some stay for the next round, others are made again.
  return cache->store().remove(make_keys(0, 30)).ok() ? 0 : 7;
}

TEST_F(SharedCacheTest, Kill9AtRandomTimesLeavesOnlyWholeBlocksAndAPoolThatWorks) {
  constexpr int64_t kManySlots = 32768;  // those of killed writers rest for a minute
  Step kept;
  Child keeper([&] {
    const auto theirs = cache(kManySlots);
    kept.set(1);
    kept.await(2);
    return 0;
  });
  kept.await(1);
  std::mt19937_64 random(23);
  for (int round = 0; round < kills(15); ++round) {
    Step ready;
    std::vector<Child> ranks;
    for (int i = 0; i < 3; ++i) {
      ranks.emplace_back([&] {
        const auto theirs = cache(kManySlots);
        ready.add();
        return work_until_killed(theirs.get(), static_cast<uint64_t>(round * 3 + i));
      });
    }
    ready.await(3);
    for (Child& rank : ranks) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 8000));
      ASSERT_TRUE(rank.kill()) << "round " << round << ": a wrong byte before the kill";
    }
    Child checker([&] { return check_after_kills(cache(kManySlots).get()); });
    ASSERT_EQ(checker.wait(), 0) << "round " << round;
  }
  kept.set(2);
  EXPECT_EQ(keeper.wait(), 0);
}

TEST_F(SharedCacheTest, NothingRemainsInDevShmNorInTheRuntimeDirectory) {
  const auto count = [](const std::string& folder) {
    size_t files = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
      files += file.path().filename().string().find("ucm") != std::string::npos;
    }
    return files;
  };
  const size_t before = count("/dev/shm");
  Step step;
  Child keeper([&] {
    const auto theirs = cache();
    step.set(1);
    step.await(2);
    return 0;
  });
  step.await(1);
  Child killed([&] {
    const auto theirs = cache();
    (void)dump_blocks(theirs->store(), make_keys(0, 5));
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(killed.wait(), -1 - SIGKILL);
  EXPECT_EQ(count("/dev/shm"), before);
  EXPECT_EQ(stages::cache::find_shared_pools(folder_).value().size(), 1u);
  step.set(2);
  EXPECT_EQ(keeper.wait(), 0);
  EXPECT_EQ(count("/dev/shm"), before);
  EXPECT_TRUE(stages::cache::find_shared_pools(folder_).value().empty());
}

TEST_F(SharedCacheTest, KeepsWhatACacheOfOneProcessWouldUnderEveryPolicy) {
  for (const char* policy : {"auto", "lru", "arc", "lru2", "s3fifo"}) {
    Options shared = options(16);
    Options own = cache_options(16);
    shared["eviction_policy"] = own["eviction_policy"] = policy;
    shared["unique_id"] = folder_ + policy;
    CacheOverMemory one(shared, layout_, /*with_next=*/false);
    CacheOverMemory two(own, layout_, /*with_next=*/false);
    std::mt19937_64 random(3);
    for (int i = 0; i < 600; ++i) {
      const auto keys = make_keys(std::min(random() % 60, random() % 60), 1);
      ASSERT_TRUE(dump_blocks(one.store(), keys).ok());
      ASSERT_TRUE(dump_blocks(two.store(), keys).ok());
      ASSERT_EQ(present_in(one.store(), make_keys(0, 60)),
                present_in(two.store(), make_keys(0, 60)))
          << policy << " after dump " << i;
    }
    EXPECT_GT(one.metric("ucm_evicted_blocks_total"), 0) << policy;
  }
}

}  // namespace
}  // namespace ucm::test
