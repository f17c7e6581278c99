// SPDX-License-Identifier: Apache-2.0
// What becomes of transfers that a storage answers after the stages above it have gone.
#include <gtest/gtest.h>

#include "late_store.h"
#include "memory_store.h"
#include "store/guarded.h"
#include "store/ladder.h"
#include "test_blocks.h"

namespace ucm::test {
namespace {

const BlockLayout& late_layout() {
  static const BlockLayout layout = BlockLayout::make({6000}, 1, 3).value();
  return layout;
}

class LateAnswerTest : public testing::Test {
 protected:
  StorePtr late() { return std::make_unique<LateStore>(late_layout(), answers_); }
  StorePtr guarded(StorePtr stage) {
    return make_guarded(std::move(stage), "Late", std::make_shared<base::MetricRegistry>());
  }
  StorePtr ladder(StorePtr upper, StorePtr lower) {
    return make_ladder(std::move(upper), std::move(lower), std::make_shared<base::Counter>());
  }
  static StorePtr empty_store() { return std::make_unique<MemoryStore>(late_layout()); }
  TaskPtr load(Store& store) { return store.load(make_batch(keys_, {}, buffers_)); }

  const std::shared_ptr<LateAnswers> answers_ = std::make_shared<LateAnswers>();
  const std::vector<BlockKey> keys_ = make_keys(0, 3);
  Buffers buffers_{late_layout(), 3};
};

TEST_F(LateAnswerTest, AFailedLoadOfTheUpperStageEndsWithoutALowerOneThatHasGone) {
  StorePtr store = ladder(guarded(late()), empty_store());
  const TaskPtr task = load(*store);
  ASSERT_EQ(answers_->count(), 1u);
  store.reset();
  EXPECT_FALSE(task->done()) << "its memory is still the storage's";
  answers_->answer(make_status(Code::io_error, "late"));
  EXPECT_EQ(task->wait(kPatience).code(), Code::unavailable);
  EXPECT_EQ(task->failed_rows().size(), 3u);
}

TEST_F(LateAnswerTest, ALoadOfTheLowerStageEndsWellWithoutAnUpperOneToCopyItTo) {
  StorePtr store = ladder(empty_store(), guarded(late()));
  const TaskPtr task = load(*store);
  ASSERT_EQ(answers_->count(), 1u);
  store.reset();
  answers_->answer({});
  EXPECT_TRUE(task->wait(kPatience).ok());
}

TEST_F(LateAnswerTest, NestedLaddersEndEveryRow) {
  StorePtr store = ladder(guarded(late()), ladder(guarded(late()), empty_store()));
  const TaskPtr loaded = load(*store);
  const TaskPtr dumped = store->dump(make_batch(keys_, {}, buffers_));
  store.reset();
  answers_->answer(make_status(Code::io_error, "late"));
  EXPECT_EQ(loaded->wait(kPatience).code(), Code::unavailable);
  EXPECT_TRUE(dumped->wait(kPatience).ok()) << "the lowest stage has taken it";
}

}  // namespace
}  // namespace ucm::test
