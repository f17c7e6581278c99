// SPDX-License-Identifier: Apache-2.0
#include "base/worker_group.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace ucm::base {
namespace {

TEST(WorkerGroup, RunsUrgentJobsFirst) {
  WorkerGroup workers("test", 1);
  std::promise<void> gate;
  std::string order;
  workers.submit(Lane::normal, [&, open = gate.get_future().share()] { open.wait(); });
  workers.submit(Lane::normal, [&] { order += 'n'; });
  workers.submit(Lane::urgent, [&] { order += 'u'; });
  workers.submit(Lane::urgent, [&] { order += 'v'; });
  gate.set_value();
  workers.close();
  EXPECT_EQ(order, "uvn");
}

TEST(WorkerGroup, RunsWhatIsQueuedBeforeItClosesAndNothingAfter) {
  std::atomic<int> ran{0};
  WorkerGroup workers("test", 3);
  for (int i = 0; i < 100; ++i) workers.submit(Lane::normal, [&] { ++ran; });
  workers.close();
  EXPECT_EQ(ran, 100);
  EXPECT_FALSE(workers.submit(Lane::normal, [&] { ++ran; }));
  workers.close();
  EXPECT_EQ(ran, 100);
}

TEST(WorkerGroup, PreparesEachThreadOnce) {
  std::atomic<int> prepared{0};
  WorkerGroup workers("test", 4, [&] { ++prepared; });
  workers.close();
  EXPECT_EQ(prepared, 4);
}

}  // namespace
}  // namespace ucm::base
