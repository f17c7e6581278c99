// SPDX-License-Identifier: Apache-2.0
#include "base/metric_registry.h"

#include <gtest/gtest.h>

#include <numeric>
#include <thread>

namespace ucm::base {
namespace {

TEST(MetricRegistry, GivesTheSameHandleForTheSameNameAndLabels) {
  MetricRegistry registry;
  Counter& first = registry.counter("hits", {{"stage", "a"}});
  Counter& other = registry.counter("hits", {{"stage", "b"}});
  EXPECT_NE(&first, &other);
  EXPECT_EQ(&first, &registry.counter("hits", {{"stage", "a"}}));
}

TEST(MetricRegistry, PutsObservationsIntoTheBucketOfTheirUpperBound) {
  MetricRegistry registry;
  Histogram& histogram = registry.histogram("seconds", {});
  for (const double seconds : {0.0, 1e-5, 2e-5, 0.9, 100.0}) histogram.observe(seconds);
  const MetricSample sample = registry.samples().at(0);
  ASSERT_EQ(sample.counts.size(), sample.bounds.size() + 1);
  EXPECT_EQ(std::accumulate(sample.counts.begin(), sample.counts.end(), uint64_t{0}), 5u);
  EXPECT_EQ(sample.counts.front(), 2u);
  EXPECT_EQ(sample.counts.back(), 1u);
  EXPECT_NEAR(sample.value, 100.90003, 1e-6);
}

TEST(MetricRegistry, CountsFromManyThreadsWithoutLoss) {
  MetricRegistry registry;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 10000; ++j) registry.counter("n", {}).add();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(registry.counter("n", {}).value(), 80000u);
}

}  // namespace
}  // namespace ucm::base
