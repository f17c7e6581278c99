// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "ucm/task.h"

namespace ucm {
namespace {

constexpr std::chrono::milliseconds kShort{5};

TEST(Task, PassesReleasedBeforeDone) {
  const TaskPtr task = Task::make(2);
  task->release_row(0);
  EXPECT_FALSE(task->released());
  task->release_row(1);
  EXPECT_TRUE(task->released());
  EXPECT_FALSE(task->done());
  EXPECT_EQ(task->wait(kShort).code(), Code::timeout);
  task->finish_row(0, {});
  task->finish_row(1, {});
  EXPECT_TRUE(task->wait(kShort).ok());
}

TEST(Task, HasStartedWhenEachRowIsOnAStreamOrHasEnded) {
  const TaskPtr task = Task::make(3);
  std::vector<uintptr_t> ordered;
  const std::vector<uint32_t> rows = {0, 2};
  task->start_rows(rows, [&](uintptr_t stream) {
    ordered.push_back(stream);
    return Status();
  });
  EXPECT_FALSE(task->started());
  EXPECT_EQ(task->wait_started(kShort).code(), Code::timeout);
  task->finish_row(1, make_status(Code::not_found, "row 1"));
  EXPECT_TRUE(task->started());
  EXPECT_FALSE(task->released());
  EXPECT_EQ(task->wait_started(kShort).code(), Code::not_found);
  EXPECT_TRUE(task->order_stream(77).ok());
  EXPECT_EQ(ordered, std::vector<uintptr_t>{77});
  task->finish_row(0, {});
  task->finish_row(2, {});
  EXPECT_TRUE(task->done());
  EXPECT_EQ(task->failed_rows(), std::vector<uint32_t>{1});
}

TEST(Task, AStreamThatCanNotBeOrderedIsAnError) {
  const TaskPtr task = Task::make(1);
  const uint32_t row = 0;
  task->start_rows({&row, 1}, [](uintptr_t) { return make_status(Code::device_error, "no"); });
  EXPECT_TRUE(task->wait_started(kShort).ok());
  EXPECT_EQ(task->order_stream(1).code(), Code::device_error);
  task->finish_row(0, {});
}

TEST(Task, KeepsTheFirstCauseAndAllFailedRowsInOrder) {
  const TaskPtr task = Task::make(4);
  task->finish_row(3, make_status(Code::io_error, "first"));
  task->finish_row(1, make_status(Code::timeout, "second"));
  task->finish_row(0, {});
  task->finish_row(2, {});
  EXPECT_EQ(task->status().message(), "first");
  EXPECT_EQ(task->failed_rows(), (std::vector<uint32_t>{1, 3}));
}

TEST(Task, WithoutRowsIsDone) {
  EXPECT_TRUE(Task::make(0)->done());
  EXPECT_TRUE(Task::make(0)->wait(kShort).ok());
}

TEST(Task, CallsBackOnceWhetherItEndsBeforeOrAfter) {
  int calls = 0;
  const TaskPtr early = Task::finished(1, {});
  early->on_done([&](Task&) { ++calls; });
  const TaskPtr late = Task::make(1);
  late->on_done([&](Task&) { ++calls; });
  EXPECT_EQ(calls, 1);
  late->finish_row(0, {});
  EXPECT_EQ(calls, 2);
}

TEST(Task, WakesAWaiterFromAnotherThread) {
  const TaskPtr task = Task::make(1);
  std::thread finisher([task] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    task->finish_row(0, make_status(Code::corruption, "x"));
  });
  EXPECT_EQ(task->wait(std::chrono::seconds(20)).code(), Code::corruption);
  finisher.join();
}

// Told apart by the sanitizers: whoever waits may let go of it before the last row's call returns.
TEST(Task, MayBeLetGoOfAsSoonAsItIsDone) {
  std::atomic<Task*> given = nullptr;
  std::thread finisher([&] {
    for (int round = 0; round < 500; ++round) {
      Task* task = nullptr;
      while ((task = given.exchange(nullptr)) == nullptr) std::this_thread::yield();
      task->finish_row(0, Status());
    }
  });
  for (int round = 0; round < 500; ++round) {
    const TaskPtr task = Task::make(1);
    given = task.get();
    EXPECT_TRUE(task->wait(std::chrono::seconds(20)).ok());
  }
  finisher.join();
}

TEST(Task, RunsItsCancelHookOnlyWhileItIsUnderWay) {
  int hooks = 0;
  const TaskPtr task = Task::make(1);
  task->on_cancel([&] { ++hooks; });
  task->cancel();
  EXPECT_TRUE(task->cancelled());
  task->finish_row(0, make_status(Code::cancelled, "cancelled"));
  task->cancel();
  EXPECT_EQ(hooks, 1);
}

}  // namespace
}  // namespace ucm
