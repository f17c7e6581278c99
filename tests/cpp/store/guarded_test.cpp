// SPDX-License-Identifier: Apache-2.0
#include "store/guarded.h"

#include <gtest/gtest.h>

#include "late_store.h"
#include "memory_store.h"
#include "store/ladder.h"
#include "test_blocks.h"

namespace ucm::test {
namespace {

using std::chrono::seconds;

constexpr seconds kSilence{15};

class GuardedTest : public testing::Test {
 protected:
  GuardedTest() {
    auto stage = std::make_unique<MemoryStore>(BlockLayout::make({6000}, 1, 3).value());
    stage_ = stage.get();
    guarded_ =
        make_guarded(std::move(stage), "Lower", metrics_, {kSilence, [this] { return now_; }});
  }

  Status look() {
    std::vector<uint8_t> present(1);
    return guarded_->lookup(make_keys(0, 1), present);
  }
  void look_until_left_alone() {
    stage_->fail_lookups = true;
    for (uint32_t i = 0; i < Breaker::kFailures; ++i) EXPECT_EQ(look().code(), Code::timeout);
    stage_->lookups = 0;
  }
  // Whether the stage itself is asked by the next lookup.
  bool asks() {
    const int before = stage_->lookups;
    static_cast<void>(look());
    return stage_->lookups > before;
  }
  int64_t is_open(const char* operation) {
    return metrics_->gauge("ucm_breaker_open", {{"stage", "Lower"}, {"operation", operation}})
        .value();
  }
  uint64_t refused(const char* operation) {
    return metrics_
        ->counter("ucm_breaker_refused_calls_total", {{"stage", "Lower"}, {"operation", operation}})
        .value();
  }

  Breaker::Time now_ = Breaker::Time() + seconds(1000);
  const std::shared_ptr<base::MetricRegistry> metrics_ = std::make_shared<base::MetricRegistry>();
  MemoryStore* stage_;
  StorePtr guarded_;
};

TEST_F(GuardedTest, PassesEverythingOnWhileTheStageWorks) {
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(*guarded_, keys).ok());
  EXPECT_EQ(count_present(*guarded_, keys), 3u);
  EXPECT_EQ(guarded_->lookup_prefix(make_keys(0, 5)).value(), 3u);
  EXPECT_EQ(load_blocks(*guarded_, keys).value(), 0u);
  ASSERT_TRUE(guarded_->renew(keys).ok());
  EXPECT_EQ(stage_->renewals, 1);
  ASSERT_TRUE(guarded_->remove(keys).ok());
  EXPECT_EQ(stage_->size(), 0u);
  EXPECT_EQ(refused("lookup") + refused("load") + refused("dump"), 0u);
}

TEST_F(GuardedTest, LeavesAStageAloneThatKeepsFailingAndTellsSo) {
  look_until_left_alone();
  EXPECT_EQ(is_open("lookup"), 1);
  std::vector<uint8_t> present(2, 0xEE);
  ASSERT_TRUE(guarded_->lookup(make_keys(0, 2), present).ok());
  EXPECT_EQ(present, std::vector<uint8_t>(2, 0));
  EXPECT_EQ(guarded_->lookup_prefix(make_keys(0, 2)).value(), 0u);
  EXPECT_EQ(load_blocks(*guarded_, make_keys(0, 2)).status().code(), Code::unavailable);
  EXPECT_EQ(dump_blocks(*guarded_, make_keys(0, 2)).code(), Code::unavailable);
  std::vector<uint8_t> pinned(2);
  EXPECT_EQ(guarded_->pin(make_keys(0, 2), pinned).code(), Code::unavailable);
  EXPECT_EQ(guarded_->unpin(make_keys(0, 2)).code(), Code::unavailable);
  EXPECT_TRUE(guarded_->renew(make_keys(0, 2)).ok());
  EXPECT_EQ(stage_->lookups + stage_->loads + stage_->dumps + stage_->renewals, 0);
  EXPECT_EQ(refused("lookup"), 4u);
  EXPECT_EQ(refused("load"), 1u);
  EXPECT_EQ(refused("dump"), 1u);
}

TEST_F(GuardedTest, AsksAgainOnceAfterEachPauseWhichDoublesUpToALimit) {
  look_until_left_alone();
  seconds pause = Breaker::kFirstPause;
  for (int i = 0; i < 8; ++i) {
    now_ += pause - seconds(1);
    EXPECT_FALSE(asks()) << "before the end of " << pause.count() << " s";
    now_ += seconds(1);
    EXPECT_TRUE(asks()) << "after " << pause.count() << " s";
    EXPECT_FALSE(asks()) << "twice after " << pause.count() << " s";
    pause = std::min<seconds>(pause * 2, Breaker::kLongestPause);
  }
  EXPECT_EQ(is_open("lookup"), 1);
  now_ += Breaker::kLongestPause;
  stage_->fail_lookups = false;
  EXPECT_TRUE(asks());
  EXPECT_EQ(is_open("lookup"), 0);
  EXPECT_TRUE(asks());
  look_until_left_alone();
  now_ += Breaker::kFirstPause;
  EXPECT_TRUE(asks()) << "the pause is the first one again";
}

TEST_F(GuardedTest, StaysWithAStageThatAnswersThatItHasNotOrCanNot) {
  const auto keys = make_keys(0, 1);
  for (uint32_t i = 0; i < 2 * Breaker::kFailures; ++i) {
    EXPECT_EQ(load_blocks(*guarded_, keys).status().code(), Code::not_found);
    stage_->fail_dumps = true;
    EXPECT_EQ(dump_blocks(*guarded_, keys).code(), Code::no_space);
  }
  EXPECT_EQ(is_open("load") + is_open("dump"), 0);
}

TEST_F(GuardedTest, OneGoodRowOfATransferSaysThatTheStageWorks) {
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*guarded_, make_keys(0, 1)).ok());
  stage_->fail_dumps = true;
  stage_->dump_failure = Code::io_error;
  for (uint32_t i = 1; i < Breaker::kFailures; ++i) static_cast<void>(dump_blocks(*guarded_, keys));
  stage_->fail_dumps = false;
  ASSERT_TRUE(dump_blocks(*guarded_, keys).ok());
  stage_->fail_dumps = true;
  for (uint32_t i = 1; i < Breaker::kFailures; ++i) static_cast<void>(dump_blocks(*guarded_, keys));
  EXPECT_EQ(is_open("dump"), 0);
  EXPECT_EQ(dump_blocks(*guarded_, keys).code(), Code::io_error);
  EXPECT_EQ(is_open("dump"), 1);
}

TEST_F(GuardedTest, ADiskThatOnlyReadsIsRead) {
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*guarded_, keys).ok());
  stage_->fail_dumps = true;
  stage_->dump_failure = Code::io_error;
  for (uint32_t i = 0; i < Breaker::kFailures; ++i) {
    EXPECT_EQ(dump_blocks(*guarded_, make_keys(9, 1)).code(), Code::io_error);
  }
  EXPECT_EQ(dump_blocks(*guarded_, make_keys(9, 1)).code(), Code::unavailable);
  EXPECT_EQ(count_present(*guarded_, keys), 2u);
  EXPECT_EQ(load_blocks(*guarded_, keys).value(), 0u);
}

TEST_F(GuardedTest, WhatCanNotBeLoadedIsNotFoundUntilALoadHasWorkedAgain) {
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*guarded_, keys).ok());
  stage_->fail_loads = true;
  for (uint32_t i = 0; i < Breaker::kFailures; ++i) {
    EXPECT_EQ(load_blocks(*guarded_, keys).status().code(), Code::io_error);
    EXPECT_EQ(count_present(*guarded_, keys), i + 1 < Breaker::kFailures ? 2u : 0u);
  }
  now_ += Breaker::kFirstPause;
  stage_->fail_loads = false;
  EXPECT_EQ(count_present(*guarded_, keys), 2u);
  EXPECT_EQ(load_blocks(*guarded_, keys).value(), 0u);
  EXPECT_EQ(is_open("load"), 0);
}

TEST_F(GuardedTest, ALadderGoesOnWithItsUpperStageAlone) {
  auto upper = std::make_unique<MemoryStore>(stage_->layout());
  MemoryStore* above = upper.get();
  MemoryStore* below = stage_;
  const StorePtr ladder =
      make_ladder(std::move(upper), std::move(guarded_), std::make_shared<base::Counter>());
  below->fail_dumps = true;
  below->dump_failure = Code::timeout;
  for (uint64_t i = 0; i < Breaker::kFailures; ++i) {
    ASSERT_TRUE(dump_blocks(*ladder, make_keys(i, 1)).ok());
  }
  below->hold();
  const auto keys = make_keys(20, 3);
  ASSERT_TRUE(dump_blocks(*ladder, keys).ok()) << "does not wait for the stage below";
  EXPECT_EQ(load_blocks(*ladder, keys).value(), 0u);
  below->let_go();
  below->fail_dumps = false;
  now_ += Breaker::kFirstPause;
  ASSERT_TRUE(dump_blocks(*ladder, keys).ok());
  EXPECT_EQ(below->size(), 3u);
  EXPECT_EQ(above->size(), Breaker::kFailures + 3);
}

// Over a stage that has every block and answers transfers only when the test says so.
class GuardedLateTest : public testing::Test {
 protected:
  TaskPtr load() { return guarded_->load(make_batch(keys_, {}, buffers_)); }
  TaskPtr dump() { return guarded_->dump(make_batch(keys_, {}, buffers_)); }
  bool found() { return count_present(*guarded_, keys_) == keys_.size(); }
  // Whether it reaches the stage, which answers it then.
  bool loads() {
    const size_t before = answers_->count();
    static_cast<void>(load());
    return answers_->count() > before;
  }
  int64_t is_open(const char* operation) {
    return metrics_->gauge("ucm_breaker_open", {{"stage", "Late"}, {"operation", operation}})
        .value();
  }

  Breaker::Time now_ = Breaker::Time() + seconds(1000);
  const BlockLayout layout_ = BlockLayout::make({6000}, 1, 3).value();
  const std::vector<BlockKey> keys_ = make_keys(0, 2);
  Buffers buffers_{layout_, 2};
  const std::shared_ptr<base::MetricRegistry> metrics_ = std::make_shared<base::MetricRegistry>();
  const std::shared_ptr<LateAnswers> answers_ = std::make_shared<LateAnswers>();
  const StorePtr guarded_ = make_guarded(std::make_unique<LateStore>(layout_, answers_), "Late",
                                         metrics_, {kSilence, [this] { return now_; }});
};

TEST_F(GuardedLateTest, AStageThatHangsIsLeftAloneUntilItAnswers) {
  const TaskPtr hanging = load();
  now_ += kSilence - seconds(1);
  EXPECT_TRUE(found());
  now_ += seconds(1);
  EXPECT_FALSE(found());
  EXPECT_EQ(guarded_->lookup_prefix(keys_).value(), 0u);
  EXPECT_EQ(load()->status().code(), Code::unavailable);
  EXPECT_EQ(is_open("load"), 1);
  EXPECT_EQ(dump()->status().code(), Code::unavailable);
  answers_->answer({});
  EXPECT_TRUE(hanging->done());
  EXPECT_EQ(is_open("load"), 0);
  EXPECT_TRUE(found());
  EXPECT_TRUE(loads());
}

TEST_F(GuardedLateTest, DumpsThatHangAreRefusedWhileBlocksAreRead) {
  const TaskPtr hanging = dump();
  now_ += kSilence;
  EXPECT_EQ(dump()->status().code(), Code::unavailable);
  EXPECT_EQ(is_open("dump"), 1);
  EXPECT_TRUE(found());
  EXPECT_TRUE(loads());
}

TEST_F(GuardedLateTest, AStageThatAnswersSomethingDoesNotHang) {
  const TaskPtr first = load();
  for (int i = 0; i < 4; ++i) {
    now_ += kSilence - seconds(1);
    EXPECT_TRUE(found());
    answers_->answer_first({});
    static_cast<void>(load());
    static_cast<void>(load());
  }
  EXPECT_TRUE(first->done());
  EXPECT_EQ(is_open("load"), 0);
}

TEST_F(GuardedLateTest, AStageThatIsAskedForNothingDoesNotHang) {
  static_cast<void>(load());
  answers_->answer({});
  now_ += 10 * kSilence;
  EXPECT_TRUE(found());
  static_cast<void>(load());
  now_ += kSilence - seconds(1);
  EXPECT_TRUE(found());
}

TEST_F(GuardedLateTest, OneLoadAtATimeFindsOutWhetherItWorksAgain) {
  static_cast<void>(load());
  now_ += kSilence;
  EXPECT_FALSE(loads());
  now_ += Breaker::kFirstPause;
  EXPECT_TRUE(found());
  EXPECT_TRUE(loads());
  now_ += kSilence - seconds(1);
  EXPECT_FALSE(found());
  EXPECT_FALSE(loads());
  // It hangs as well: the next pause is twice as long.
  now_ += seconds(1);
  EXPECT_FALSE(loads());
  now_ += 2 * Breaker::kFirstPause - seconds(1);
  EXPECT_FALSE(loads());
  now_ += seconds(1);
  EXPECT_TRUE(loads());
}

TEST_F(GuardedLateTest, AnAnswerThatIsLostForGoodCountsOnce) {
  const TaskPtr lost = load();
  now_ += kSilence;
  EXPECT_FALSE(found());
  now_ += Breaker::kFirstPause;
  const TaskPtr probe = load();
  answers_->answer_last({});
  EXPECT_TRUE(probe->done());
  EXPECT_FALSE(lost->done());
  EXPECT_EQ(is_open("load"), 0);
  now_ += 10 * kSilence;
  EXPECT_TRUE(found());
  EXPECT_EQ(is_open("load"), 0);
}

TEST_F(GuardedLateTest, ABatchOfNoRowsIsNotWaitedFor) {
  Batch none;
  EXPECT_TRUE(guarded_->load(none)->done());
  now_ += kSilence;
  EXPECT_TRUE(found());
}

}  // namespace
}  // namespace ucm::test
