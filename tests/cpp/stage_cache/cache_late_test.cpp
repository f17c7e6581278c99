// SPDX-License-Identifier: Apache-2.0
// A Cache that was closed while the stage below hangs, which answers later.
#include <gtest/gtest.h>

#include "cache_fixture.h"
#include "late_store.h"

namespace ucm::test {
namespace {

class CacheLateTest : public testing::Test {
 protected:
  CacheLateTest() {
    const Options options = cache_options(4, /*timeout_s=*/0.1);
    StageContext context;
    context.options = &options;
    context.layout = layout_;
    context.metrics = std::make_shared<base::MetricRegistry>();
    context.device = open_device("cpu", 0).value();
    context.next = std::make_unique<LateStore>(layout_, answers_);
    store_ = find_stage("Cache")->make(std::move(context)).value();
  }

  const BlockLayout layout_ = BlockLayout::make({5000}, 1, 0).value();
  const std::shared_ptr<LateAnswers> answers_ = std::make_shared<LateAnswers>();
  const std::vector<BlockKey> keys_ = make_keys(0, 2);
  std::unique_ptr<Buffers> buffers_ = std::make_unique<Buffers>(layout_, 2);
  StorePtr store_;
};

TEST_F(CacheLateTest, ALoadEndsWithTheCloseAndItsMemoryIsTheCallersAgain) {
  const TaskPtr task = store_->load(make_batch(keys_, {}, *buffers_));
  store_->close();
  EXPECT_TRUE(task->done());
  EXPECT_EQ(task->status().code(), Code::unavailable);
  buffers_.reset();
  answers_->answer({});
  store_.reset();
}

TEST_F(CacheLateTest, ADumpThatWaitsForALoadEndsWithTheCloseAsWell) {
  const TaskPtr load = store_->load(make_batch(keys_, {}, *buffers_));
  Buffers bytes(layout_, 2);
  const TaskPtr dump = store_->dump(make_batch(keys_, {}, bytes));
  store_.reset();
  EXPECT_EQ(load->status().code(), Code::unavailable);
  EXPECT_EQ(dump->status().code(), Code::unavailable);
  EXPECT_TRUE(load->done() && dump->done());
  answers_->answer(make_status(Code::io_error, "late"));
  EXPECT_EQ(answers_->count(), 0u) << "nothing was written in place of what did not come";
}

TEST_F(CacheLateTest, ABlockThatWasRemovedWhileItWasWrittenIsNotRemovedFromAStageThatHasGone) {
  const TaskPtr task = store_->dump(make_batch(keys_, {}, *buffers_));
  ASSERT_TRUE(task->wait_released(kPatience).ok());
  while (answers_->count() == 0) std::this_thread::yield();
  ASSERT_TRUE(store_->remove(keys_).ok());
  store_.reset();
  EXPECT_FALSE(task->done());
  answers_->answer({});
  EXPECT_TRUE(task->wait(kPatience).ok());
}

TEST_F(CacheLateTest, AFetchThatHasOutlivedTheTimeLimitIsNotWaitedForByOthers) {
  const TaskPtr first = store_->load(make_batch(keys_, {}, *buffers_));
  EXPECT_EQ(answers_->count(), 1u);
  Buffers again(layout_, 2);
  const TaskPtr second = store_->load(make_batch(keys_, {}, again));
  EXPECT_EQ(answers_->count(), 1u) << "it waits for the first one";
  std::this_thread::sleep_for(std::chrono::milliseconds(110));
  Buffers later(layout_, 2);
  const TaskPtr third = store_->load(make_batch(keys_, {}, later));
  ASSERT_EQ(answers_->count(), 2u);
  answers_->answer_last({});
  EXPECT_TRUE(third->wait(kPatience).ok());
  EXPECT_FALSE(first->done());
  EXPECT_EQ(count_present(*store_, keys_), 2u);
  answers_->answer({});
  EXPECT_EQ(first->wait(kPatience).code(), Code::cancelled);
  EXPECT_EQ(second->wait(kPatience).code(), Code::cancelled);
  EXPECT_TRUE(store_->load(make_batch(keys_, {}, later))->wait(kPatience).ok());
}

}  // namespace
}  // namespace ucm::test
