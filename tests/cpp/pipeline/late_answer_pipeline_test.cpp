// SPDX-License-Identifier: Apache-2.0
// A storage that hangs, is given up by the store above it, and answers when that has gone.
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

using io::Operation;

class LateStorageTest : public testing::TestWithParam<bool> {
 protected:
  LateStorageTest() {
    char pattern[] = "/tmp/ucm-late-XXXXXX";
    folder_ = mkdtemp(pattern);
    set_log_sink([](LogLevel, std::string_view) {}, LogLevel::error);
  }
  ~LateStorageTest() override {
    io::set_faults({});
    set_log_sink({}, LogLevel::warning);
    std::filesystem::remove_all(folder_);
  }

  // In folders of its own: those of a store that was given up stay locked until the storage
  // answers.
  std::unique_ptr<Pipeline> open(const std::string& spec) {
    const std::string place = folder_ + "/" + std::to_string(++opened_);
    PipelineConfig config;
    config.spec = spec;
    config.options = {{"disk.storage_backends", place + "/disk"},
                      {"posix.storage_backends", place + "/posix"},
                      {"disk.use_io_uring", GetParam()},
                      {"disk.capacity_bytes", int64_t{64} << 20},
                      {"buffer_number", int64_t{8}},
                      {"timeout_s", 0.2},
                      {"prefault", false}};
    config.layout = layout_;
    return Pipeline::open(config).value();
  }
  // Hangs until the faults are set anew, and fails then.
  void hang_disk(Operation operation, int error = EIO) {
    io::set_faults({{.operation = operation, .path = "/disk/", .error = error, .hang = true}});
  }
  // Blocks that the Cache has forgotten by now.
  std::vector<BlockKey> stored_below(Store& store) {
    for (uint64_t first = 0; first < 32; first += 4) {
      EXPECT_TRUE(dump_blocks(store, make_keys(first, 4)).ok());
    }
    return make_keys(0, 4);
  }

  const BlockLayout layout_ = BlockLayout::make({6000}, 1, 7).value();
  std::string folder_;
  int opened_ = 0;
};

TEST_P(LateStorageTest, ALoadThatFailsAfterTheStoreHasGoneReachesNothingOfIt) {
  for (const char* spec : {"Cache|Disk|Posix", "Disk|Posix"}) {
    auto store = open(spec);
    const auto keys = stored_below(*store);
    hang_disk(Operation::read);
    auto buffers = std::make_unique<Buffers>(layout_, keys.size());
    const TaskPtr task = store->load(make_batch(keys, {}, *buffers));
    EXPECT_EQ(task->wait(std::chrono::milliseconds(50)).code(), Code::timeout) << spec;
    store.reset();
    EXPECT_TRUE(task->done()) << spec;
    EXPECT_EQ(task->status().code(), Code::unavailable) << spec;
    buffers.reset();
    io::set_faults({});
  }
}

TEST_P(LateStorageTest, ALoadThatIsRightAfterAllLeavesTheCallersMemoryAlone) {
  auto store = open("Cache|Disk|Posix");
  const auto keys = stored_below(*store);
  hang_disk(Operation::read, 0);
  auto buffers = std::make_unique<Buffers>(layout_, keys.size());
  const TaskPtr task = store->load(make_batch(keys, {}, *buffers));
  store->close();
  EXPECT_EQ(task->status().code(), Code::unavailable);
  buffers.reset();
  io::set_faults({});
  store.reset();
}

TEST_P(LateStorageTest, ADumpThatHangsIsOverWhenTheStorageHasAnswered) {
  for (const int error : {0, EIO}) {
    auto store = open("Cache|Disk|Posix");
    ASSERT_TRUE(dump_blocks(*store, make_keys(0, 2)).ok());
    hang_disk(Operation::write, error);
    const auto keys = make_keys(10, 2);
    Buffers buffers(layout_, keys.size());
    const TaskPtr task = store->dump(make_batch(keys, {}, buffers));
    ASSERT_TRUE(task->wait_released(kPatience).ok());
    ASSERT_TRUE(store->remove(keys).ok());
    store.reset();
    io::set_faults({});
    static_cast<void>(task->wait(kPatience));
    EXPECT_TRUE(task->done()) << error;
  }
}

}  // namespace

INSTANTIATE_TEST_SUITE_P(Engines, LateStorageTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& info) {
                           return info.param ? "uring" : "threads";
                         });

}  // namespace ucm::test
