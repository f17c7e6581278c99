// SPDX-License-Identifier: Apache-2.0
// A stage that fails must not take away what the stages above it have.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <thread>

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
                      {"disk.timeout_s", 1.0},
                      {"prefault", false}};
    config.layout = BlockLayout::make({3000, 5000}, 2, 7).value();
    return Pipeline::open(config).value();
  }
  void fail_posix() {
    io::set_faults(
        {{.operation = io::Operation::any, .path = folder_ + "/posix/*/*", .error = EIO}});
  }
  // Without an error: calls that are made now return when the faults are set anew.
  void hang_disk() {
    std::vector<io::FaultRule> rules;
    for (const auto operation : {io::Operation::read, io::Operation::write}) {
      rules.push_back({.operation = operation, .path = folder_ + "/disk", .hang = true});
    }
    io::set_faults(std::move(rules));
  }
  // Asks until the stage is left alone, or works again.
  static void ask_until(Pipeline& store, double open, const std::function<void()>& ask) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (metric(store, "ucm_breaker_open", "Disk") != open) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
      ask();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
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

TEST_F(FailingStageTest, ADiskThatHangsLeavesWhatTheCacheHas) {
  const auto store = open("Cache|Disk");
  const auto below = make_keys(0, 4);
  ASSERT_TRUE(dump_blocks(*store, below).ok());
  const auto above = make_keys(10, 8);
  ASSERT_TRUE(dump_blocks(*store, above).ok());
  hang_disk();
  Buffers buffers(store->layout(), 2 * below.size());
  std::vector<BlockKey> keys;
  std::vector<uint32_t> shards;
  all_rows(store->layout(), below, &keys, &shards);
  const TaskPtr hanging = store->load(make_batch(keys, shards, buffers));
  ask_until(*store, 1, [&] { static_cast<void>(count_present(*store, below)); });
  EXPECT_EQ(count_present(*store, below), 0u);
  EXPECT_EQ(count_present(*store, make_keys(10, 4)), 4u);
  EXPECT_EQ(load_blocks(*store, make_keys(10, 4)).value(), 0u);
  EXPECT_EQ(load_blocks(*store, make_keys(30, 1)).status().code(), Code::unavailable);
  EXPECT_FALSE(hanging->done());
  io::set_faults({});
  EXPECT_TRUE(hanging->wait(kPatience).ok());
  ask_until(*store, 0, [] {});
  EXPECT_EQ(count_present(*store, below), 4u);
  EXPECT_EQ(load_blocks(*store, above).value(), 0u);
}

TEST_F(FailingStageTest, ADiskThatHangsLeavesCacheAndPosixAtWork) {
  const auto store = open("Cache|Disk|Posix");
  const auto keys = make_keys(0, 20);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  hang_disk();
  Buffers buffers(store->layout(), 2);
  const std::vector<BlockKey> two(2, keys[0]);
  const std::vector<uint32_t> shards = {0, 1};
  const TaskPtr hanging = store->load(make_batch(two, shards, buffers));
  ask_until(*store, 1, [&] { static_cast<void>(count_present(*store, keys)); });
  EXPECT_EQ(load_blocks(*store, make_keys(1, 4)).value(), 0u) << "from Posix";
  ASSERT_TRUE(dump_blocks(*store, make_keys(50, 1)).ok()) << "without Disk";
  EXPECT_FALSE(hanging->done());
  io::set_faults({});
  EXPECT_TRUE(hanging->wait(kPatience).ok());
  ask_until(*store, 0, [] {});
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
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
