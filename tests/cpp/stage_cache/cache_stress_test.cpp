// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <thread>

#include "cache_fixture.h"

namespace ucm::test {
namespace {

struct Tally {
  std::atomic<size_t> wrong_bytes{0};
  std::atomic<size_t> loaded_rows{0};
  std::atomic<size_t> unfinished{0};
};

// One random transfer of up to 20 whole blocks, all shards in one task.
void random_transfer(CacheOverMemory* cache, std::mt19937_64* random, Tally* tally) {
  std::vector<BlockKey> keys;
  std::vector<uint32_t> shards;
  const uint64_t first = (*random)() % 40;
  const uint64_t count = 1 + (*random)() % 20;
  for (uint64_t i = 0; i < count; ++i) {
    for (uint32_t shard = 0; shard < cache->layout().shards(); ++shard) {
      keys.push_back(make_key((first + i) % 50));
      shards.push_back(shard);
    }
  }
  Buffers buffers(cache->layout(), keys.size());
  const bool load = (*random)() % 2 == 0;
  if (load) {
    buffers.wipe();
  } else {
    for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], shards[i]);
  }
  const Batch batch = make_batch(keys, shards, buffers);
  const TaskPtr task = load ? cache->store().load(batch) : cache->store().dump(batch);
  if ((*random)() % 8 == 0) task->cancel();
  if (task->wait(kPatience).code() == Code::timeout) ++tally->unfinished;
  if (!load) return;
  const std::vector<uint32_t> failed = task->failed_rows();
  for (uint32_t row = 0; row < keys.size(); ++row) {
    if (std::binary_search(failed.begin(), failed.end(), row)) continue;
    ++tally->loaded_rows;
    tally->wrong_bytes += buffers.wrong_bytes(row, keys[row], shards[row]);
  }
}

TEST(CacheStress, SixteenThreadsNeverSeeAWrongByteOrALostTask) {
  CacheOverMemory cache(cache_options(24), BlockLayout::make({300, 500}, 2, 5).value());
  Tally tally;
  std::vector<std::thread> threads;
  for (uint64_t seed = 0; seed < 16; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (int step = 0; step < 60; ++step) {
        switch (random() % 8) {
          case 0:
            (void)cache.store().remove(make_keys(random() % 50, 3));
            break;
          case 1:
            (void)count_present(cache.store(), make_keys(random() % 50, 30));
            break;
          case 2:
            cache.below().fail_dumps = random() % 4 == 0;
            cache.below().fail_loads = random() % 4 == 0;
            break;
          default:
            random_transfer(&cache, &random, &tally);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(tally.wrong_bytes, 0u);
  EXPECT_EQ(tally.unfinished, 0u);
  EXPECT_GT(tally.loaded_rows, 100u);
}

}  // namespace
}  // namespace ucm::test
