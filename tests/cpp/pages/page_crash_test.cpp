// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <atomic>
#include <random>
#include <thread>

#include "page_fixture.h"
#include "processes.h"

namespace ucm {
namespace {

using test::count_pages;
using test::dump_pages;
using test::load_pages;
using test::make_keys;
using test::open_pages;

class PageCrashTest : public test::PageTest {};

// What a writing child tells its parent: how many keys are done, shared memory.
struct Progress {
  std::atomic<uint64_t> done{0};
};

TEST_F(PageCrashTest, everything_done_is_there_after_kill_9) {
  auto* progress = static_cast<Progress*>(
      ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(progress, MAP_FAILED);
  new (progress) Progress;
  std::mt19937 random(42);
  for (int round = 0; round < 20; ++round) {
    const uint64_t first = progress->done.load();
    const pid_t child = test::fork_child();
    if (child == 0) {
      auto opened = PageStore::open(options(20000, 4096));
      if (!opened.ok()) ::_exit(1);
      for (uint64_t next = first;; next += 4) {
        for (const Status& status : dump_pages(*opened.value(), make_keys(next, 4), 4096)) {
          if (!status.ok()) ::_exit(2);
        }
        progress->done.store(next + 4);
      }
    }
    while (progress->done.load() < first + 8) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself with " << status;
    const uint64_t done = progress->done.load();
    const auto store = open_pages(options(20000, 4096));
    const auto keys = make_keys(0, done);
    ASSERT_EQ(count_pages(*store, keys), done) << "round " << round;
    const auto sample = make_keys(first, std::min<uint64_t>(done - first, 400));
    const auto loaded = load_pages(*store, sample, 4096);
    ASSERT_EQ(loaded.right, sample.size()) << "round " << round;
  }
  ::munmap(progress, sizeof(Progress));
}

TEST_F(PageCrashTest, kill_9_of_an_evicting_writer_never_leaves_wrong_bytes) {
  std::mt19937 random(43);
  for (int round = 0; round < 12; ++round) {
    const pid_t child = test::fork_child();
    if (child == 0) {
      auto opened = PageStore::open(options(32, 4096));
      if (!opened.ok()) ::_exit(1);
      for (uint64_t next = 0;; next = (next + 8) % 200) {
        dump_pages(*opened.value(), make_keys(next, 8), 4096);
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20000 + random() % 30000));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    const auto store = open_pages(options(32, 4096));
    const auto loaded = load_pages(*store, make_keys(0, 208), 4096);
    EXPECT_EQ(loaded.wrong, 0u);
    for (const Status& row : loaded.statuses) {
      // No kill leaves an entry whose bytes were not written: those would be corruption.
      EXPECT_TRUE(row.ok() || row.code() == Code::not_found) << row.to_string();
    }
  }
}

}  // namespace
}  // namespace ucm
