// SPDX-License-Identifier: Apache-2.0
// A stage that fails must not take away what the stages above it have.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>

#include "io/faults.h"
#include "test_blocks.h"
#include "ucm/log.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

class FailingStageTest : public testing::Test {
 protected:
  FailingStageTest() {
    char pattern[] = "/tmp/ucm-failing-XXXXXX";
    folder_ = mkdtemp(pattern);
    set_log_sink({}, LogLevel::off);
  }
  ~FailingStageTest() override {
    io::set_faults({});
    set_log_sink({}, LogLevel::warning);
    std::filesystem::remove_all(folder_);
  }

  std::unique_ptr<Pipeline> open(const std::string& spec, bool retain = true) {
    PipelineConfig config;
    config.spec = spec;
    config.options = {{"disk.storage_backends", folder_ + "/disk"},
                      {"posix.storage_backends", folder_ + "/posix"},
                      {"buffer_number", int64_t{8}},
                      {"cache.retain", retain},
                      {"disk.capacity_bytes", int64_t{64} << 20},
                      {"prefault", false}};
    config.layout = BlockLayout::make({3000, 5000}, 2, 7).value();
    return Pipeline::open(config).value();
  }
  void fail_posix() {
    io::set_faults(
        {{.operation = io::Operation::any, .path = folder_ + "/posix/*/*", .error = EIO}});
  }
  static double metric(const Pipeline& store, const std::string& name, const std::string& stage) {
    double sum = 0;
    for (const MetricSample& sample : store.metrics()) {
      const bool of_stage = !sample.labels.empty() && sample.labels.front().second == stage;
      if (sample.name == name && of_stage) sum += sample.value;
    }
    return sum;
  }

  std::string folder_;
};

TEST_F(FailingStageTest, ADeadPosixLeavesCacheAndDiskAtWork) {
  const auto store = open("Cache|Disk|Posix");
  const auto keys = make_keys(0, 20);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  fail_posix();
  const auto asked = make_keys(0, 30);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(store->lookup_prefix(asked).value(), 20u);
    EXPECT_EQ(count_present(*store, asked), 20u);
    EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
    ASSERT_TRUE(dump_blocks(*store, make_keys(100 + i, 1)).ok());
  }
  EXPECT_EQ(metric(*store, "ucm_breaker_open", "Disk"), 0);
  EXPECT_GE(metric(*store, "ucm_breaker_open", "Posix"), 1);
  EXPECT_GT(metric(*store, "ucm_breaker_refused_calls_total", "Posix"), 0);
  // The lowest stage that had something answered in place of each of the five.
  EXPECT_EQ(metric(*store, "ucm_partial_lookups_total", "Disk") +
                metric(*store, "ucm_partial_lookups_total", "Cache"),
            5);
}

TEST_F(FailingStageTest, ADeadPosixLeavesTheCacheAtWork) {
  const auto store = open("Cache|Posix");
  const auto keys = make_keys(0, 8);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  fail_posix();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(store->lookup_prefix(make_keys(0, 12)).value(), 8u);
    EXPECT_EQ(count_present(*store, make_keys(0, 12)), 8u);
    EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  }
  EXPECT_EQ(metric(*store, "ucm_breaker_open", "Posix"), 1);
  EXPECT_EQ(metric(*store, "ucm_partial_lookups_total", "Cache"), 5);
}

TEST_F(FailingStageTest, WithNothingAboveThatKeepsBlocksEveryFailureIsTold) {
  for (const auto& [spec, retain] : {std::pair{"Posix", true}, std::pair{"Cache|Posix", false}}) {
    const auto store = open(spec, retain);
    fail_posix();
    std::vector<uint8_t> present(2);
    for (int i = 0; i < 10; ++i) {
      EXPECT_EQ(store->lookup(make_keys(0, 2), present).code(), Code::io_error) << spec;
    }
    io::set_faults({});
  }
}

}  // namespace
}  // namespace ucm::test
