// SPDX-License-Identifier: Apache-2.0
#include "store/lent_stage.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "memory_store.h"
#include "test_blocks.h"

namespace ucm::test {
namespace {

// Says when it is destroyed, and by whom; a removal stays inside until the test lets it go.
class Watched : public MemoryStore {
 public:
  struct Seen {
    std::promise<void> entered;
    std::promise<void> let_go;
    std::promise<std::thread::id> destroyed_by;
  };
  Watched(BlockLayout layout, std::shared_ptr<Seen> seen)
      : MemoryStore(std::move(layout)), seen_(std::move(seen)) {}
  ~Watched() override { seen_->destroyed_by.set_value(std::this_thread::get_id()); }
  Status remove(std::span<const BlockKey>) override {
    seen_->entered.set_value();
    seen_->let_go.get_future().wait();
    return {};
  }

 private:
  const std::shared_ptr<Seen> seen_;
};

class LentStageTest : public testing::Test {
 protected:
  const BlockLayout layout_ = BlockLayout::make({6000}, 1, 3).value();
  const std::shared_ptr<Watched::Seen> seen_ = std::make_shared<Watched::Seen>();
  const std::shared_ptr<LentStage> lent_ =
      std::make_shared<LentStage>(std::make_unique<Watched>(layout_, seen_));
  const std::vector<BlockKey> keys_ = make_keys(0, 2);
};

TEST_F(LentStageTest, PassesCallsOnUntilItIsTakenBack) {
  ASSERT_TRUE(dump_blocks(*lent_, keys_).ok());
  EXPECT_EQ(count_present(*lent_, keys_), 2u);
  EXPECT_EQ(lent_->lookup_prefix(keys_).value(), 2u);
  EXPECT_EQ(load_blocks(*lent_, keys_).value(), 0u);
  lent_->take_back();
  EXPECT_EQ(seen_->destroyed_by.get_future().get(), std::this_thread::get_id());
}

TEST_F(LentStageTest, AnswersUnavailableWithoutTheStage) {
  lent_->take_back();
  std::vector<uint8_t> answers(2);
  EXPECT_EQ(lent_->lookup(keys_, answers).code(), Code::unavailable);
  EXPECT_EQ(lent_->lookup_prefix(keys_).status().code(), Code::unavailable);
  EXPECT_EQ(lent_->prefetch(keys_).code(), Code::unavailable);
  EXPECT_EQ(lent_->remove(keys_).code(), Code::unavailable);
  EXPECT_EQ(lent_->abandon(keys_).code(), Code::unavailable);
  EXPECT_EQ(lent_->renew(keys_).code(), Code::unavailable);
  EXPECT_EQ(lent_->pin(keys_, answers).code(), Code::unavailable);
  EXPECT_EQ(lent_->unpin(keys_).code(), Code::unavailable);
  EXPECT_EQ(dump_blocks(*lent_, keys_).code(), Code::unavailable);
  EXPECT_EQ(load_blocks(*lent_, keys_).status().code(), Code::unavailable);
  EXPECT_FALSE(lent_->digest_seed(keys_[0]).has_value());
  EXPECT_EQ(lent_->layout().block_bytes(), layout_.block_bytes());
  lent_->close();
}

TEST_F(LentStageTest, ACallThatHangsInsideKeepsTheStageAndNobodyElseWaitsForIt) {
  std::thread::id inside;
  std::thread hanging([&, lent = lent_] {
    inside = std::this_thread::get_id();
    EXPECT_TRUE(lent->remove(keys_).ok());
  });
  seen_->entered.get_future().wait();
  lent_->take_back();
  EXPECT_EQ(lent_->prefetch(keys_).code(), Code::unavailable);
  auto destroyed = seen_->destroyed_by.get_future();
  EXPECT_EQ(destroyed.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  seen_->let_go.set_value();
  const std::thread::id by = destroyed.get();
  hanging.join();
  EXPECT_NE(by, std::this_thread::get_id());
  EXPECT_NE(by, inside);
}

}  // namespace
}  // namespace ucm::test
