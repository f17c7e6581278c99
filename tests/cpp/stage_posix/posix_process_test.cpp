// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>

#include <thread>

#include "posix_fixture.h"
#include "processes.h"

namespace ucm::test {
namespace {

using PosixProcessTest = PosixTest;

TEST_F(PosixProcessTest, ThreadsThatDumpTheSameKeysStoreEachOnce) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 50);
  std::vector<std::thread> threads;
  std::vector<Status> statuses(4);
  for (size_t i = 0; i < statuses.size(); ++i) {
    threads.emplace_back([&, i] { statuses[i] = dump_blocks(*store, keys); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : statuses) EXPECT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  EXPECT_EQ(metric("ucm_transfer_blocks_total", "direction", "dump"), 50);
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
}

TEST_F(PosixProcessTest, ProcessesThatDumpTheSameKeysStoreEachOnce) {
  const auto keys = make_keys(0, 60);
  std::vector<pid_t> children;
  for (int i = 0; i < 3; ++i) {
    const pid_t child = test::fork_child();
    if (child == 0) {
      Status status = dump_blocks(*open(), keys);
      ::_exit(status.ok() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int state = -1;
    ASSERT_EQ(::waitpid(child, &state, 0), child);
    EXPECT_EQ(state, 0);
  }
  const StorePtr store = open();
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
}

TEST_F(PosixProcessTest, AWriterThatIsKilledLosesNothingThatWasDone) {
  constexpr int kRounds = 25;
  constexpr uint64_t kBlocks = 400;
  for (int round = 0; round < kRounds; ++round) {
    int done[2];
    ASSERT_EQ(::pipe(done), 0);
    const uint64_t first = static_cast<uint64_t>(round) * kBlocks;
    const pid_t child = test::fork_child();
    if (child == 0) {
      ::close(done[0]);
      const StorePtr store = open();
      for (uint64_t i = 0; i < kBlocks; i += 4) {
        // One byte says that four more blocks are done.
        if (!dump_blocks(*store, make_keys(first + i, 4)).ok()) ::_exit(1);
        if (::write(done[1], "x", 1) != 1) ::_exit(2);
      }
      ::pause();
    }
    ::close(done[1]);
    // Killed at another moment each time, from before the first block on.
    uint64_t finished = 0;
    char byte = 0;
    for (int i = 0; i < round && ::read(done[0], &byte, 1) == 1; ++i) finished += 4;
    ::kill(child, SIGKILL);
    int state = 0;
    ASSERT_EQ(::waitpid(child, &state, 0), child);
    ASSERT_TRUE(WIFSIGNALED(state)) << "the writer failed before it was killed";
    while (::read(done[0], &byte, 1) == 1) finished += 4;
    ::close(done[0]);

    const StorePtr store = open();
    const auto keys = make_keys(first, finished);
    EXPECT_EQ(store->lookup_prefix(keys).value(), finished);
    if (finished > 0) {
      const auto wrong = load_blocks(*store, keys);
      ASSERT_TRUE(wrong.ok()) << wrong.status().to_string();
      EXPECT_EQ(wrong.value(), 0u);
    }
    // Whatever else is visible is whole.
    std::vector<BlockKey> visible;
    for (const BlockKey& key : make_keys(first + finished, kBlocks - finished)) {
      if (count_present(*store, {key}) == 1) visible.push_back(key);
    }
    EXPECT_EQ(load_blocks(*store, visible).value(), 0u);
    EXPECT_EQ(metric("ucm_dropped_blocks_total"), 0);
  }
}

}  // namespace
}  // namespace ucm::test
