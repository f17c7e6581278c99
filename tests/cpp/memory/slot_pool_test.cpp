// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <set>
#include <thread>

#include "ucm/layout.h"
#include "ucm/memory.h"

namespace ucm {
namespace {

PoolOptions small(size_t slots) {
  PoolOptions options;
  options.slot_bytes = 5000;
  options.slots = slots;
  options.prefault = false;
  return options;
}

TEST(Pool, GivesAlignedSlotsThatDoNotOverlap) {
  const auto pool = Pool::make(small(10)).value();
  EXPECT_EQ(pool->slot_bytes(), 8192u);
  std::vector<Lease> leases;
  for (int i = 0; i < 10; ++i) {
    leases.push_back(pool->try_lease());
    ASSERT_TRUE(leases.back());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(leases.back().data()) % kAlign, 0u);
    std::memset(leases.back().data(), i, pool->slot_bytes());
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(static_cast<int>(leases[i].data()[0]), i);
    EXPECT_EQ(static_cast<int>(leases[i].data()[8191]), i);
  }
  EXPECT_FALSE(pool->try_lease());
}

TEST(Pool, TakesASlotBackWhenItsLeaseGoes) {
  const auto pool = Pool::make(small(1)).value();
  {
    Lease lease = pool->try_lease();
    Lease moved = std::move(lease);
    EXPECT_FALSE(lease);  // NOLINT bugprone-use-after-move: an empty lease is the promise
    EXPECT_EQ(pool->stats().used_bytes, 8192u);
  }
  EXPECT_EQ(pool->stats().used_bytes, 0u);
  EXPECT_EQ(pool->stats().peak_bytes, 8192u);
  EXPECT_TRUE(pool->try_lease());
}

TEST(Pool, LivesUntilItsLastLeaseIsGone) {
  Lease lease = Pool::make(small(2)).value()->try_lease();
  std::memset(lease.data(), 7, 8192);
  EXPECT_EQ(static_cast<int>(lease.data()[100]), 7);
}

TEST(Pool, UsesLargePagesForLargeRegionsAndCountsWithTheProcess) {
  const uint64_t before = process_pool_stats().total_bytes;
  PoolOptions options;
  options.slot_bytes = 1 << 20;
  options.slots = 64;
  const auto pool = Pool::make(options).value();
  EXPECT_GE(pool->stats().page_bytes, 4096u);
  EXPECT_EQ(process_pool_stats().total_bytes - before, pool->stats().total_bytes);
  options.huge_pages = false;
  EXPECT_EQ(Pool::make(options).value()->stats().page_bytes, static_cast<size_t>(::getpagesize()));
}

TEST(Pool, RefusesAnEmptyOrImpossibleRequest) {
  EXPECT_EQ(Pool::make(small(0)).status().code(), Code::invalid_argument);
  PoolOptions huge = small(1);
  huge.slot_bytes = size_t{1} << 50;
  EXPECT_EQ(Pool::make(huge).status().code(), Code::out_of_memory);
}

TEST(Pool, NeverLeasesASlotTwiceToManyThreads) {
  const auto pool = Pool::make(small(8)).value();
  std::atomic<int> collisions{0};
  std::array<std::atomic<int>, 8> owners{};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5000; ++i) {
        const Lease lease = pool->try_lease();
        if (!lease) continue;
        collisions += owners[lease.slot()].fetch_add(1) != 0;
        owners[lease.slot()].fetch_sub(1);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(collisions, 0);
}

}  // namespace
}  // namespace ucm
