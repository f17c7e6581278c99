// SPDX-License-Identifier: Apache-2.0
#include "store/ladder.h"

#include <gtest/gtest.h>

#include "memory_store.h"
#include "test_blocks.h"

namespace ucm::test {
namespace {

class LadderTest : public testing::Test {
 protected:
  LadderTest() {
    const BlockLayout layout = BlockLayout::make({6000}, 1, 3).value();
    auto upper = std::make_unique<MemoryStore>(layout);
    auto lower = std::make_unique<MemoryStore>(layout);
    upper_ = upper.get();
    lower_ = lower.get();
    ladder_ = make_ladder(std::move(upper), std::move(lower), partial_);
  }
  MemoryStore* upper_;
  MemoryStore* lower_;
  const std::shared_ptr<base::Counter> partial_ = std::make_shared<base::Counter>();
  StorePtr ladder_;
};

TEST_F(LadderTest, DumpsIntoBothStages) {
  ASSERT_TRUE(dump_blocks(*ladder_, make_keys(0, 4)).ok());
  EXPECT_EQ(upper_->size(), 4u);
  EXPECT_EQ(lower_->size(), 4u);
}

TEST_F(LadderTest, CopiesUpWhatOnlyTheLowerStageHad) {
  ASSERT_TRUE(dump_blocks(*lower_, make_keys(0, 4)).ok());
  ASSERT_TRUE(dump_blocks(*upper_, make_keys(2, 1)).ok());
  EXPECT_EQ(load_blocks(*ladder_, make_keys(0, 4)).value(), 0u);
  EXPECT_EQ(upper_->size(), 4u);
  EXPECT_EQ(lower_->loaded_rows, 3);
}

TEST_F(LadderTest, FallsThroughWhenTheUpperStageCanNotRead) {
  ASSERT_TRUE(dump_blocks(*ladder_, make_keys(0, 4)).ok());
  upper_->fail_loads = true;
  EXPECT_EQ(load_blocks(*ladder_, make_keys(0, 4)).value(), 0u);
}

TEST_F(LadderTest, SucceedsWhileEitherStageStoresAndFailsWhenNeitherDoes) {
  upper_->fail_dumps = true;
  EXPECT_TRUE(dump_blocks(*ladder_, make_keys(0, 1)).ok());
  upper_->fail_dumps = false;
  lower_->fail_dumps = true;
  EXPECT_TRUE(dump_blocks(*ladder_, make_keys(1, 1)).ok());
  upper_->fail_dumps = true;
  EXPECT_EQ(dump_blocks(*ladder_, make_keys(2, 1)).code(), Code::no_space);
  EXPECT_EQ(count_present(*ladder_, make_keys(0, 3)), 2u);
}

TEST_F(LadderTest, FindsAPrefixThatAlternatesBetweenTheStages) {
  for (uint64_t i = 0; i < 6; ++i) {
    ASSERT_TRUE(dump_blocks(i % 2 ? *upper_ : *lower_, make_keys(i, 1)).ok());
  }
  EXPECT_EQ(ladder_->lookup_prefix(make_keys(0, 8)).value(), 6u);
  EXPECT_EQ(ladder_->lookup_prefix(make_keys(7, 2)).value(), 0u);
}

TEST_F(LadderTest, ReportsAnAbsentBlockAndRemovesFromBoth) {
  ASSERT_TRUE(dump_blocks(*ladder_, make_keys(0, 2)).ok());
  ASSERT_TRUE(ladder_->remove(make_keys(0, 1)).ok());
  EXPECT_EQ(upper_->size() + lower_->size(), 2u);
  EXPECT_EQ(load_blocks(*ladder_, make_keys(0, 2)).status().code(), Code::not_found);
}

TEST_F(LadderTest, RenewsInBoth) {
  ASSERT_TRUE(ladder_->renew(make_keys(0, 2)).ok());
  EXPECT_EQ(upper_->renewals, 1);
  EXPECT_EQ(lower_->renewals, 1);
}

TEST_F(LadderTest, AnswersWithWhatOneStageHasWhenTheOtherOneCanNotBeAsked) {
  const auto keys = make_keys(0, 4);
  ASSERT_TRUE(dump_blocks(*upper_, make_keys(0, 2)).ok());
  ASSERT_TRUE(dump_blocks(*lower_, make_keys(0, 3)).ok());
  for (MemoryStore* failing : {upper_, lower_}) {
    const size_t left = failing == upper_ ? 3 : 2;
    failing->fail_lookups = true;
    std::vector<uint8_t> present(4, 0xEE);
    ASSERT_TRUE(ladder_->lookup(keys, present).ok());
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(present[i], i < left ? 1 : 0) << i;
    EXPECT_EQ(ladder_->lookup_prefix(keys).value(), left);
    failing->fail_lookups = false;
  }
  EXPECT_EQ(partial_->value(), 4u);
}

TEST_F(LadderTest, TellsTheFailureWhenNothingWasFoundInTheOtherStage) {
  for (MemoryStore* failing : {upper_, lower_}) {
    failing->fail_lookups = true;
    std::vector<uint8_t> present(2);
    EXPECT_EQ(ladder_->lookup(make_keys(0, 2), present).code(), Code::timeout);
    EXPECT_EQ(ladder_->lookup_prefix(make_keys(0, 2)).status().code(), Code::timeout);
    failing->fail_lookups = false;
  }
  EXPECT_EQ(partial_->value(), 0u);
}

}  // namespace
}  // namespace ucm::test
