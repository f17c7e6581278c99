// SPDX-License-Identifier: Apache-2.0
// Loads, dumps, removals, evictions and the engine's kernels race on several streams; every byte is
// checked.
#include <atomic>
#include <random>
#include <thread>

#include "device_pages.h"

namespace ucm::test {
namespace {

constexpr size_t kThreads = 4;
constexpr int kSteps = 25;
constexpr uint64_t kBlocks = 30;

struct Tally {
  std::atomic<size_t> wrong_bytes{0};
  std::atomic<size_t> good_rows{0};
  std::atomic<size_t> unfinished{0};
};

class DeviceRaceTest : public DeviceStoreTest {
 protected:
  // One engine: its own pages and stream, whole blocks of a common set of keys.
  void drive(Pipeline* store, uint64_t seed, Tally* tally) {
    std::mt19937_64 random(seed);
    DevicePages pages(side_.get(), layout_, 6 * layout_.shards());
    EngineStream engine(side_.get());
    for (int step = 0; step < kSteps; ++step) {
      std::vector<BlockKey> keys;
      std::vector<uint32_t> shards;
      const std::vector<BlockKey> chosen = make_keys(random() % kBlocks, 1 + random() % 6);
      all_rows(layout_, chosen, &keys, &shards);
      switch (random() % 8) {
        case 0:
          (void)store->remove(chosen);
          break;
        case 1:
        case 2:
        case 3:
          dump(store, keys, shards, &pages, &engine, tally);
          break;
        default:
          load(store, keys, shards, &pages, &engine, tally);
      }
    }
  }
  void dump(Pipeline* store, const std::vector<BlockKey>& keys, const std::vector<uint32_t>& shards,
            DevicePages* pages, EngineStream* engine, Tally* tally) {
    pages->fill(keys, shards, engine->stream());
    const TaskPtr task = store->dump(batch(keys, shards, *pages, engine->mark()));
    if (task->wait_released(kPatience).code() == Code::timeout) ++tally->unfinished;
    pages->spoil(engine->stream());
    if (task->wait(kPatience).code() == Code::timeout) ++tally->unfinished;
  }
  void load(Pipeline* store, const std::vector<BlockKey>& keys, const std::vector<uint32_t>& shards,
            DevicePages* pages, EngineStream* engine, Tally* tally) {
    pages->spoil(engine->stream());
    const TaskPtr task = store->load(batch(keys, shards, *pages, engine->mark()));
    if (task->wait(kPatience).code() == Code::timeout) ++tally->unfinished;
    const std::vector<uint32_t> failed = task->failed_rows();
    tally->wrong_bytes += pages->wrong_bytes(keys, shards, failed, engine->stream());
    tally->good_rows += keys.size() - failed.size();
  }
};

TEST_P(DeviceRaceTest, EveryByteIsRightWhileLoadsDumpsEvictionsAndKernelsRace) {
  for (const std::string spec : {"Cache", "Cache|Posix"}) {
    const auto store = open(spec, 20);
    ASSERT_NE(store, nullptr);
    Tally tally;
    std::vector<std::thread> threads;
    for (uint64_t seed = 0; seed < kThreads; ++seed) {
      threads.emplace_back([&, seed] { drive(store.get(), seed, &tally); });
    }
    for (std::thread& thread : threads) thread.join();
    store->close();
    EXPECT_EQ(tally.wrong_bytes, 0u) << spec;
    EXPECT_EQ(tally.unfinished, 0u) << spec;
    EXPECT_GT(tally.good_rows, 50u) << spec;
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceRaceTest, ::testing::ValuesIn(device_platforms()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ucm::test
