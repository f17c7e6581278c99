// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

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
