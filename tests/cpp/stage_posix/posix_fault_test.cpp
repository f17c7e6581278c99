// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "posix_fixture.h"

namespace ucm::test {
namespace {

using io::FaultRule;
using io::Operation;
using PosixFaultTest = PosixTest;

// A time limit the test can wait for, and a hang that is far longer.
constexpr double kShortTimeout = 0.5;
constexpr uint32_t kHangMs = 3000;

TEST_F(PosixFaultTest, ALoadThatHangsEndsInTimeoutAndItsMemoryIsNotTouchedLater) {
  const auto keys = make_keys(0, 1);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  options_["timeout_s"] = kShortTimeout;
  const StorePtr store = open();
  io::set_faults({{.operation = Operation::read, .path = file_of(keys[0]), .delay_ms = kHangMs}});
  Buffers buffers(store->layout(), 1);
  buffers.wipe();
  std::atomic<int> rows{0};
  Batch batch = make_batch(keys, {}, buffers);
  batch.on_row = [&](uint32_t, const Status&) { ++rows; };
  const auto start = std::chrono::steady_clock::now();
  const TaskPtr task = store->load(batch);
  EXPECT_EQ(task->wait(kPatience).code(), Code::timeout);
  EXPECT_TRUE(task->done());
  EXPECT_EQ(rows.load(), 1);
  store->close();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(kHangMs));
  // The call that hung returns with the right bytes; they must not arrive any more.
  ASSERT_TRUE(eventually([] { return io::faults_taken() == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(kHangMs + 200) -
                              (std::chrono::steady_clock::now() - start));
  for (size_t i = 0; i < kBlockBytes; ++i) ASSERT_EQ(buffers.piece(0, 0)[i], std::byte{0xEE});
  EXPECT_EQ(rows.load(), 1);
  EXPECT_EQ(metric("ucm_failures_total", "cause", "timeout"), 1);
}

TEST_F(PosixFaultTest, ADumpThatHangsEndsInTimeoutAndIsNotPublishedLater) {
  options_["timeout_s"] = kShortTimeout;
  const auto keys = make_keys(0, 2);
  {
    const StorePtr store = open();
    io::set_faults({{.operation = Operation::write, .path = folder_of(keys[0]), .delay_ms = 2000},
                    {.operation = Operation::write, .path = folder_of(keys[1]), .delay_ms = 2000}});
    Buffers buffers(store->layout(), 2);
    for (size_t i = 0; i < 2; ++i) buffers.fill(i, keys[i], 0);
    const TaskPtr task = store->dump(make_batch(keys, {}, buffers));
    EXPECT_EQ(task->wait(kPatience).code(), Code::timeout);
    EXPECT_EQ(task->failed_rows().size(), 2u);
    // While the calls are stuck the memory may change: nothing of it may become visible.
    ASSERT_TRUE(eventually([] { return io::faults_taken() == 2; }));
    ASSERT_TRUE(eventually([&] { return count_files(root(), ".t-") == 0; }));
    EXPECT_EQ(count_present(*store, keys), 0u);
  }
  io::set_faults({});
  EXPECT_EQ(count_present(*open(), keys), 0u);
}

TEST_F(PosixFaultTest, WhenEveryThreadIsStuckNewWorkIsRefusedUntilOneReturns) {
  const auto keys = make_keys(0, 6);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  options_["timeout_s"] = kShortTimeout;
  options_["io_threads"] = int64_t{2};
  const StorePtr store = open();
  io::set_faults({{.operation = Operation::read, .path = root(), .count = 2, .delay_ms = 2500}});
  EXPECT_EQ(load_blocks(*store, keys).status().code(), Code::timeout);
  ASSERT_TRUE(
      eventually([&] { return load_blocks(*store, keys).status().code() == Code::unavailable; }));
  ASSERT_TRUE(eventually([&] { return load_blocks(*store, keys).ok(); }));
}

TEST_F(PosixFaultTest, ALookupThatHangsEndsInTimeoutAndCloseReturns) {
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  options_["timeout_s"] = kShortTimeout;
  // A reader: nothing but the lookup asks for sizes.
  const StorePtr store = open(flat_layout(), true);
  io::set_faults({{.operation = Operation::stat, .path = root(), .count = 1, .delay_ms = 3000}});
  std::vector<uint8_t> present(3);
  EXPECT_EQ(store->lookup(keys, present).code(), Code::timeout);
  EXPECT_EQ(store->lookup_prefix(keys).status().code(), Code::unavailable);
  ASSERT_TRUE(eventually([&] { return store->lookup(keys, present).ok(); }));
  EXPECT_EQ(count_present(*store, keys), 3u);
  io::set_faults({{.operation = Operation::stat, .path = root(), .delay_ms = kHangMs}});
  EXPECT_EQ(store->lookup(keys, present).code(), Code::timeout);
  const auto start = std::chrono::steady_clock::now();
  store->close();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(kHangMs));
  io::set_faults({});
}

TEST_F(PosixFaultTest, AFullDiskFailsTheDumpAndKeepsEveryOlderBlock) {
  const StorePtr store = open();
  const auto old_keys = make_keys(0, 5);
  const auto fresh_keys = make_keys(100, 5);
  ASSERT_TRUE(dump_blocks(*store, old_keys).ok());
  io::set_faults({{.operation = Operation::write, .path = root(), .error = ENOSPC}});
  const Status status = dump_blocks(*store, fresh_keys);
  EXPECT_EQ(status.code(), Code::no_space);
  EXPECT_NE(status.message().find("No space left"), std::string::npos);
  EXPECT_EQ(count_present(*store, fresh_keys), 0u);
  EXPECT_EQ(load_blocks(*store, old_keys).value(), 0u);
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
  EXPECT_EQ(metric("ucm_failures_total", "cause", "no_space"), 5);
  io::set_faults({});
  EXPECT_TRUE(dump_blocks(*store, fresh_keys).ok());
}

TEST_F(PosixFaultTest, TransfersThatAreCutShortAreContinued) {
  io::set_faults({{.operation = Operation::any, .path = root(), .cut = true}});
  const StorePtr store = open(flat_layout(64 * 4096 + 17));
  const auto keys = make_keys(0, 4);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  EXPECT_GT(io::faults_taken(), 8u);
}

TEST_F(PosixFaultTest, AReadErrorIsNoReasonToDropTheBlock) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 1);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  io::set_faults({{.operation = Operation::read, .path = file_of(keys[0]), .error = EIO}});
  EXPECT_EQ(load_blocks(*store, keys).status().code(), Code::io_error);
  io::set_faults({});
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  EXPECT_EQ(metric("ucm_dropped_blocks_total"), 0);
}

TEST_F(PosixFaultTest, ErrorsThatPassAreRetried) {
  options_["retry_count"] = int64_t{3};
  const StorePtr store = open();
  const auto keys = make_keys(0, 1);
  io::set_faults(
      {{.operation = Operation::write, .path = folder_of(keys[0]), .count = 2, .error = EIO}});
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(io::faults_taken(), 2u);
  for (const int error : {EIO, ESTALE, ETIMEDOUT}) {
    io::set_faults(
        {{.operation = Operation::read, .path = file_of(keys[0]), .count = 3, .error = error}});
    EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
    EXPECT_EQ(io::faults_taken(), 3u);
    io::set_faults(
        {{.operation = Operation::read, .path = file_of(keys[0]), .count = 4, .error = error}});
    EXPECT_FALSE(load_blocks(*store, keys).ok());
  }
}

TEST_F(PosixFaultTest, ARenameThatKnowsNoFlagsIsDoneByALink) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 3);
  io::set_faults({{.operation = Operation::rename, .path = root(), .error = EINVAL}});
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  const uint64_t inode = inode_of(file_of(keys[0]));
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(inode_of(file_of(keys[0])), inode);
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
}

TEST_F(PosixFaultTest, AFileSystemWithoutLinksIsServedByAPlainRename) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 3);
  const std::string folder = folder_of(keys[0]);
  io::set_faults({{.operation = Operation::rename, .path = folder, .count = 1, .error = EINVAL},
                  {.operation = Operation::link, .path = folder, .error = EPERM}});
  ASSERT_TRUE(dump_blocks(*store, {keys[0]}).ok());
  EXPECT_EQ(io::faults_taken(), 2u);
  EXPECT_EQ(load_blocks(*store, {keys[0]}).status().code(), Code::ok);
}

TEST_F(PosixFaultTest, EveryDurabilityStoresBlocks) {
  for (const char* durability : {"none", "group", "strict"}) {
    options_["durability"] = durability;
    options_["storage_backends"] = scratch(durability);
    const StorePtr store = open();
    const auto keys = make_keys(0, 3);
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
    io::set_faults({{.operation = Operation::sync, .path = scratch(durability), .error = EIO}});
    const Status status = dump_blocks(*store, make_keys(50, 1));
    EXPECT_EQ(status.code(), std::string(durability) == "none" ? Code::ok : Code::io_error);
    io::set_faults({});
  }
}

TEST_F(PosixFaultTest, ACancelledTaskEndsTheRowsThatHaveNotStarted) {
  options_["io_threads"] = int64_t{1};
  const StorePtr store = open();
  const auto keys = make_keys(0, 8);
  io::set_faults(
      {{.operation = Operation::write, .path = folder_of(keys[0]), .count = 1, .delay_ms = 300}});
  Buffers buffers(store->layout(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], 0);
  const TaskPtr task = store->dump(make_batch(keys, {}, buffers));
  ASSERT_TRUE(eventually([] { return io::faults_taken() == 1; }));
  task->cancel();
  EXPECT_EQ(task->wait(kPatience).code(), Code::cancelled);
  EXPECT_EQ(task->failed_rows().size(), keys.size() - 1);
  EXPECT_EQ(load_blocks(*store, {keys[0]}).value(), 0u);
}

TEST_F(PosixFaultTest, LoadsGoBeforeDumpsThatWait) {
  options_["io_threads"] = int64_t{1};
  const StorePtr store = open();
  const auto keys = make_keys(0, 1);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  const auto more = make_keys(10, 6);
  io::set_faults(
      {{.operation = Operation::write, .path = folder_of(more[0]), .count = 1, .delay_ms = 300}});
  Buffers buffers(store->layout(), more.size());
  for (size_t i = 0; i < more.size(); ++i) buffers.fill(i, more[i], 0);
  std::atomic<int> dumped{0};
  Batch batch = make_batch(more, {}, buffers);
  batch.on_row = [&](uint32_t, const Status&) { ++dumped; };
  const TaskPtr dump = store->dump(batch);
  ASSERT_TRUE(eventually([] { return io::faults_taken() == 1; }));
  Buffers target(store->layout(), 1);
  int dumped_before_load = -1;
  Batch load = make_batch(keys, {}, target);
  load.on_row = [&](uint32_t, const Status&) { dumped_before_load = dumped.load(); };
  ASSERT_TRUE(store->load(load)->wait(kPatience).ok());
  EXPECT_EQ(dumped_before_load, 1);
  EXPECT_TRUE(dump->wait(kPatience).ok());
}

TEST_F(PosixFaultTest, AnswersOfLookupsAreReusedOnlyWithATimeToLive) {
  const auto keys = make_keys(0, 4);
  for (const double ttl : {0.0, 100.0}) {
    options_["lookup_ttl_s"] = ttl;
    options_["storage_backends"] = scratch(ttl > 0 ? "kept" : "asked");
    const StorePtr store = open();
    ASSERT_TRUE(dump_blocks(*store, {keys[0], keys[1]}).ok());
    EXPECT_EQ(count_present(*store, keys), 2u);
    // The rule never disturbs anything; it counts the questions about a block that nobody else, the
    // collector for example, can come across.
    io::set_faults({{.operation = Operation::stat, .path = keys[3].hex()}});
    EXPECT_EQ(count_present(*store, keys), 2u);
    EXPECT_EQ(io::faults_taken() > 0, ttl == 0);
    // What this process does itself is known at once.
    ASSERT_TRUE(dump_blocks(*store, {keys[2]}).ok());
    ASSERT_TRUE(store->remove({&keys[0], 1}).ok());
    EXPECT_EQ(count_present(*store, keys), 2u);
    EXPECT_EQ(count_present(*store, {keys[0]}), 0u);
    EXPECT_EQ(count_present(*store, {keys[2]}), 1u);
  }
}

}  // namespace
}  // namespace ucm::test
