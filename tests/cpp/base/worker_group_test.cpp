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

TEST(WorkerGroup, AnswersQuestionsBeforeEverythingElse) {
  WorkerGroup workers("test", 1);
  std::promise<void> gate;
  std::string order;
  workers.submit(Lane::normal, [&, open = gate.get_future().share()] { open.wait(); });
  workers.submit(Lane::urgent, [&] { order += 'u'; });
  workers.submit(Lane::question, [&] { order += 'q'; });
  gate.set_value();
  workers.close();
  EXPECT_EQ(order, "qu");
}

TEST(WorkerGroup, StartsThreadsOnlyWhenJobsFindNoneIdleAndPreparesEachOnce) {
  std::atomic<int> prepared{0};
  WorkerGroup workers("test", 4, [&] { ++prepared; });
  for (int i = 0; i < 3; ++i) {
    std::promise<void> ran;
    workers.submit(Lane::normal, [&] { ran.set_value(); });
    ran.get_future().wait();
  }
  // The jobs came one after the other: a second thread may have started, when the first one had
  // not come back from the job before, but never one per job.
  EXPECT_LT(prepared, 4);
  std::promise<void> gate;
  const std::shared_future<void> open = gate.get_future().share();
  std::atomic<int> running{0};
  std::promise<void> all;
  for (int i = 0; i < 8; ++i) {
    workers.submit(Lane::normal, [&, open] {
      if (++running == 4) all.set_value();
      open.wait();
    });
  }
  all.get_future().wait();
  EXPECT_EQ(prepared, 4);
  gate.set_value();
  workers.close();
  EXPECT_EQ(running, 8);
  EXPECT_EQ(prepared, 4);
}

}  // namespace
}  // namespace ucm::base
