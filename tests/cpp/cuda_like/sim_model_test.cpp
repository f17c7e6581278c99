// SPDX-License-Identifier: Apache-2.0
// The simulation refuses what a driver would refuse or a program would corrupt.
#include "sim_model.h"

#include <gtest/gtest.h>

#include <future>

namespace ucm::sim {
namespace {

class SimModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(model_.alloc(&far_, 1000), 0);
    ASSERT_EQ(model_.alloc_host(&near_, 1000), 0);
    ASSERT_EQ(model_.make_stream(&stream_, 0), 0);
  }
  void TearDown() override {
    EXPECT_EQ(model_.synchronize(stream_), 0);
    EXPECT_EQ(model_.destroy_stream(stream_), 0);
    EXPECT_EQ(model_.free(far_), 0);
    EXPECT_EQ(model_.free_host(near_), 0);
    model_.forget_mistakes();
  }
  void expect_refused(int answer, const std::string& words) {
    EXPECT_EQ(answer, kInvalid);
    ASSERT_FALSE(model_.mistakes().empty());
    EXPECT_NE(model_.mistakes().back().find(words), std::string::npos) << model_.mistakes().back();
  }

  Model& model_ = Model::the();
  void* far_ = nullptr;
  void* near_ = nullptr;
  Stream* stream_ = nullptr;
};

TEST_F(SimModelTest, CopiesInTheWrongDirectionAreRefused) {
  expect_refused(model_.copy(near_, far_, 10, Way::load, stream_), "not inside one allocation");
  expect_refused(model_.copy(far_, far_, 10, Way::load, stream_), "wrong direction");
}

TEST_F(SimModelTest, CopiesPastTheEndAreRefused) {
  expect_refused(model_.copy(far_, near_, 1001, Way::load, stream_), "not inside one allocation");
}

TEST_F(SimModelTest, AsynchronousCopiesOfPageableMemoryAreRefused) {
  char pageable[10] = {};
  expect_refused(model_.copy(far_, pageable, 10, Way::load, stream_), "not pinned");
}

TEST_F(SimModelTest, MemoryThatIsFreedUnderACopyIsNoticed) {
  void* other = nullptr;
  ASSERT_EQ(model_.alloc(&other, 100), 0);
  Event* gate = nullptr;
  Stream* engine = nullptr;
  ASSERT_EQ(model_.make_event(&gate), 0);
  ASSERT_EQ(model_.make_stream(&engine, 0), 0);
  std::promise<void> open;
  ASSERT_EQ(model_.launch([&] { open.get_future().wait(); }, {}, engine), 0);
  ASSERT_EQ(model_.record(gate, engine), 0);
  ASSERT_EQ(model_.stream_wait(stream_, gate), 0);
  ASSERT_EQ(model_.copy(other, near_, 100, Way::load, stream_), 0);
  expect_refused(model_.free(other), "while work on it was under way");
  open.set_value();
  ASSERT_EQ(model_.destroy_stream(engine), 0);
  ASSERT_EQ(model_.synchronize(stream_), 0);
  ASSERT_EQ(model_.destroy_event(gate), 0);
}

TEST_F(SimModelTest, StreamsAndEventsThatAreGoneAreRefused) {
  Event* event = nullptr;
  ASSERT_EQ(model_.make_event(&event), 0);
  ASSERT_EQ(model_.destroy_event(event), 0);
  expect_refused(model_.record(event, stream_), "does not exist");
  expect_refused(model_.copy(far_, near_, 10, Way::load, nullptr), "default stream");
}

TEST_F(SimModelTest, AnInjectedFailureHitsTheCallThatWasNamed) {
  model_.fail("somewhere", 2);
  EXPECT_EQ(model_.enter("somewhere"), 0);
  EXPECT_EQ(model_.enter("elsewhere"), 0);
  EXPECT_EQ(model_.enter("somewhere"), 0);
  EXPECT_EQ(model_.enter("somewhere"), kInjected);
  EXPECT_EQ(model_.enter("somewhere"), 0);
}

}  // namespace
}  // namespace ucm::sim
