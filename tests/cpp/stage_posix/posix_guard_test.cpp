// SPDX-License-Identifier: Apache-2.0
// A directory that hangs or fails below a stage that works.
#include <atomic>

#include "memory_store.h"
#include "posix_fixture.h"
#include "store/guarded.h"
#include "store/ladder.h"

namespace ucm::test {
namespace {

class PosixGuardTest : public PosixTest, public ::testing::WithParamInterface<bool> {
 protected:
  // Posix, watched, below a stage in memory. Its clock goes when the test says so.
  StorePtr open_ladder() {
    options_["timeout_s"] = 0.2;
    options_["io_threads"] = int64_t{2};
    StorePtr posix = open();
    lower_ = posix.get();
    Guarding guarding;
    guarding.clock = [this] { return Breaker::Time() + std::chrono::seconds(seconds_.load()); };
    auto guarded = make_guarded(std::move(posix), "Posix", registry_, guarding);
    return make_ladder(std::make_unique<MemoryStore>(flat_layout()), std::move(guarded), partial_);
  }
  void disturb() {
    io::FaultRule rule;
    rule.path = root() + "/*/*";
    rule.hang = GetParam();
    rule.error = rule.hang ? 0 : EIO;
    io::set_faults({rule});
  }
  double open_breakers() const { return metric("ucm_breaker_open"); }

  std::atomic<int64_t> seconds_{1000};
  const std::shared_ptr<base::Counter> partial_ = std::make_shared<base::Counter>();
  Store* lower_ = nullptr;
};

TEST_P(PosixGuardTest, TheStageAboveGoesOnAloneAndTheDirectoryIsUsedAgainWhenItWorks) {
  const StorePtr ladder = open_ladder();
  ASSERT_TRUE(dump_blocks(*ladder, make_keys(0, 4)).ok());
  ASSERT_TRUE(dump_blocks(*lower_, make_keys(4, 2)).ok());
  const auto keys = make_keys(0, 8);
  EXPECT_EQ(ladder->lookup_prefix(keys).value(), 6u);

  disturb();
  for (uint32_t i = 0; i < Breaker::kFailures; ++i) EXPECT_EQ(count_present(*ladder, keys), 4u);
  EXPECT_EQ(partial_->value(), Breaker::kFailures);
  EXPECT_EQ(open_breakers(), 1);
  for (uint64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(ladder->lookup_prefix(keys).value(), 4u);
    EXPECT_EQ(load_blocks(*ladder, make_keys(0, 4)).value(), 0u);
    ASSERT_TRUE(dump_blocks(*ladder, make_keys(100 + i, 1)).ok());
  }
  EXPECT_EQ(partial_->value(), Breaker::kFailures) << "the directory was asked";
  EXPECT_GE(metric("ucm_breaker_refused_calls_total", "operation", "lookup"), 50);
  EXPECT_GE(metric("ucm_breaker_refused_calls_total", "operation", "dump"), 50);

  io::set_faults({});
  ASSERT_TRUE(eventually([&] {
    seconds_ += Breaker::kLongestPause.count();
    return ladder->lookup_prefix(keys).value() == 6;
  }));
  EXPECT_EQ(open_breakers(), 0);
  EXPECT_EQ(load_blocks(*ladder, make_keys(0, 6)).value(), 0u);
  ASSERT_TRUE(dump_blocks(*ladder, make_keys(200, 1)).ok());
  EXPECT_EQ(count_present(*lower_, make_keys(200, 1)), 1u);
}

INSTANTIATE_TEST_SUITE_P(Faults, PosixGuardTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Hangs" : "Fails"; });

}  // namespace
}  // namespace ucm::test
