// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <span>
#include <thread>

#include "host_pages/page_table.h"
#include "memory/robust_mutex.h"
#include "processes.h"
#include "ucm/host_pages.h"

namespace ucm {
namespace {

constexpr size_t kPageBytes = 4096;

BlockKey key_of(uint64_t number) { return {number * 0x9E3779B97F4A7C15ull + 1, number}; }

HostPagesOptions options(const std::string& name, uint32_t pages) {
  static const pid_t test_process = ::getpid();  // forked children meet under it, too
  HostPagesOptions out;
  out.name = "test-" + std::to_string(test_process) + "-" + name;
  out.pages = pages;
  out.page_bytes = kPageBytes;
  return out;
}

// Two that fill one page write the same bytes at the same time, as an engine's ranks do: each word
// is atomic, so that this is no race.
std::span<uint64_t> words_of(const HostPages& pages, int32_t page) {
  auto* start = reinterpret_cast<uint64_t*>(pages.data() + size_t(page) * kPageBytes);
  return {start, kPageBytes / sizeof(uint64_t)};
}

void fill(const HostPages& pages, int32_t page, uint64_t number) {
  for (uint64_t& word : words_of(pages, page)) {
    std::atomic_ref(word).store(number, std::memory_order_relaxed);
  }
}

bool holds(const HostPages& pages, int32_t page, uint64_t number) {
  return std::ranges::all_of(words_of(pages, page), [number](uint64_t& word) {
    return std::atomic_ref(word).load(std::memory_order_relaxed) == number;
  });
}

// One request of an engine: match what is there, check its bytes, fill what is missing.
bool serve_one(HostPages* pages, std::mt19937* random) {
  const uint64_t first = (*random)() % 40;
  std::vector<BlockKey> keys;
  for (uint64_t i = 0; i < 6; ++i) keys.push_back(key_of(first + i));
  std::vector<int32_t> taken = pages->query(keys);
  for (size_t i = 0; i < taken.size(); ++i) {
    if (!holds(*pages, taken[i], first + i)) return false;
  }
  const auto rest = pages->allocate(std::span(keys).subspan(taken.size()));
  std::vector<int32_t> filled;
  for (size_t i = 0; i < rest.size() && rest[i].page != HostPages::kNone; ++i) {
    const uint64_t number = first + taken.size() + i;
    // Equal keys mean equal bytes: two that fill one page write the same.
    if (!rest[i].ready) fill(*pages, rest[i].page, number);
    filled.push_back(rest[i].page);
  }
  const bool marked = pages->mark_ready(filled, true, (*random)() % 4 == 0).ok();
  for (const auto& group : pages->take_offloads()) {
    if (!pages->release(group).ok()) return false;
  }
  return pages->release(taken).ok() && marked;
}

bool take_and_give_back(HostPages* pages, std::mt19937* random) {
  std::vector<BlockKey> keys;
  for (uint64_t i = 0; i < 3; ++i) keys.push_back(key_of((*random)() % 1000));
  std::vector<int32_t> taken;
  for (const auto& each : pages->allocate(keys)) taken.push_back(each.page);
  return pages->release(taken).ok();
}

TEST(HostPagesProcesses, a_second_server_of_one_name_is_refused_and_nobody_is_not_found) {
  const auto first = HostPages::create(options("twice", 4));
  ASSERT_TRUE(first.ok()) << first.status().message();
  EXPECT_EQ(HostPages::create(options("twice", 4)).status().code(), Code::unavailable);
  EXPECT_EQ(HostPages::attach(options("nobody", 4)).status().code(), Code::not_found);
  EXPECT_EQ(HostPages::create(options("bad/name", 4)).status().code(), Code::invalid_argument);
  EXPECT_EQ(HostPages::create(options("none", 0)).status().code(), Code::invalid_argument);
}

TEST(HostPagesProcesses, members_see_one_index_and_the_same_bytes) {
  auto maker = HostPages::create(options("bytes", 4));
  ASSERT_TRUE(maker.ok()) << maker.status().message();
  auto other = HostPages::attach(options("bytes", 0));
  ASSERT_TRUE(other.ok()) << other.status().message();
  HostPages& there = *other.value();
  const BlockKey key = key_of(7);
  const int32_t page = maker.value()->allocate({&key, 1})[0].page;
  fill(*maker.value(), page, 7);
  ASSERT_TRUE(maker.value()->mark_ready({{page}}, true, false).ok());
  ASSERT_EQ(there.query({&key, 1}), std::vector<int32_t>{page});
  EXPECT_NE(there.data(), maker.value()->data());
  maker = make_status(Code::cancelled, "closed");
  EXPECT_TRUE(holds(there, page, 7)) << "the memory outlives who made it";
  auto late = HostPages::attach(options("bytes", 0));
  ASSERT_TRUE(late.ok()) << late.status().message();
  EXPECT_TRUE(holds(*late.value(), page, 7));
  EXPECT_EQ(there.mark_ready({{4}}, true, false).code(), Code::invalid_argument);
}

TEST(HostPagesProcesses, an_index_without_memory_has_none) {
  HostPagesOptions bare = options("bare", 4);
  bare.page_bytes = 0;
  const auto pages = HostPages::create(bare);
  ASSERT_TRUE(pages.ok());
  EXPECT_EQ(pages.value()->data(), nullptr);
}

TEST(HostPagesProcesses, what_a_killed_server_left_is_cleared_by_the_next_one) {
  const char* chosen = std::getenv("XDG_RUNTIME_DIR");
  const std::string before = chosen ? chosen : "";
  const std::filesystem::path own = std::filesystem::temp_directory_path() / options("run", 0).name;
  std::filesystem::create_directory(own);
  ::setenv("XDG_RUNTIME_DIR", own.c_str(), 1);
  const pid_t child = test::fork_child();
  if (child == 0) {
    const auto pages = HostPages::create(options("left", 4));
    ::raise(SIGKILL);
  }
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  const auto count = [&own] {
    const std::filesystem::recursive_directory_iterator all(own);
    return std::count_if(begin(all), end(all), [](const auto& e) { return e.is_regular_file(); });
  };
  EXPECT_EQ(count(), 1);
  {
    const auto next = HostPages::create(options("next", 4));
    ASSERT_TRUE(next.ok()) << next.status().message();
    EXPECT_EQ(count(), 1) << "only that of the server that runs";
  }
  EXPECT_EQ(count(), 0);
  std::filesystem::remove_all(own);
  before.empty() ? ::unsetenv("XDG_RUNTIME_DIR") : ::setenv("XDG_RUNTIME_DIR", before.c_str(), 1);
}

TEST(HostPagesProcesses, memory_can_be_spread_over_nodes_and_kept_from_huge_pages) {
  HostPagesOptions wanted = options("plain", 4);
  wanted.huge_pages = false;
  wanted.numa_interleave = true;
  wanted.device = open_device("cpu", 0).value();
  const auto pages = HostPages::create(wanted);
  ASSERT_TRUE(pages.ok()) << pages.status().message();
  EXPECT_EQ(pages.value()->memory_page_bytes(), static_cast<size_t>(::getpagesize()));
  EXPECT_FALSE(pages.value()->pinned());
  fill(*pages.value(), 3, 1);
  EXPECT_TRUE(holds(*pages.value(), 3, 1));
}

TEST(HostPagesProcesses, threads_never_see_a_foreign_page) {
  const auto pages = HostPages::create(options("threads", 24));
  ASSERT_TRUE(pages.ok()) << pages.status().message();
  std::atomic<bool> right{true};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      std::mt19937 random(i);
      for (int round = 0; round < 2000; ++round) {
        if (!serve_one(pages.value().get(), &random)) right = false;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(right.load());
  EXPECT_EQ(pages.value()->stats().misused, 0u);
  EXPECT_EQ(pages.value()->stats().referenced, 0u);
}

TEST(HostPagesProcesses, who_dies_inside_a_call_leaves_the_lock_and_an_index_to_repair) {
  struct Shared {
    memory::RobustMutex mutex;
    std::byte table[1 << 16];
  };
  auto* shared = static_cast<Shared*>(
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(shared, MAP_FAILED);
  shared->mutex.init();
  host_pages::PageTable::prepare(shared->table, 8);
  const auto nobody_died = [](uint32_t) { return true; };
  host_pages::PageTable table(shared->table, 0, nobody_died);
  const int32_t kept = table.allocate(key_of(1)).page;
  table.mark_ready({{kept}}, true, false);
  host_pages::PageTable(shared->table, 1, nobody_died).allocate(key_of(2));
  const pid_t child = test::fork_child();
  if (child == 0) {
    if (shared->mutex.lock()) ::_exit(1);
    // Asked in the middle of a call, while the lock is held.
    host_pages::PageTable dying(shared->table, 2, [](uint32_t) { return ::raise(SIGKILL) == 0; });
    dying.allocate(key_of(3));
    dying.allocate(key_of(2));
    ::_exit(2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended with " << WEXITSTATUS(status);
  ASSERT_TRUE(shared->mutex.lock()) << "the death of the owner is told";
  table.repair();
  shared->mutex.repaired();
  EXPECT_EQ(table.query(key_of(1)), kept);
  const auto stats = table.stats();
  EXPECT_EQ(stats.loading, 2u);
  EXPECT_EQ(stats.empty, 5u);
  shared->mutex.unlock();
  EXPECT_FALSE(shared->mutex.lock());
  shared->mutex.unlock();
  ::munmap(shared, sizeof(Shared));
}

TEST(HostPagesProcesses, kill_9_at_any_point_leaves_a_sound_index_and_right_bytes) {
  // Many more pages than the killed can take with them.
  const auto made = HostPages::create(options("kill", 600));
  ASSERT_TRUE(made.ok()) << made.status().message();
  HostPages& pages = *made.value();
  std::mt19937 random(7);
  for (uint32_t round = 0; round < 40; ++round) {
    const pid_t child = test::fork_child();
    if (child == 0) {
      auto own = HostPages::attach(options("kill", 0));
      if (!own.ok()) ::_exit(3);
      std::mt19937 dice(round);
      for (;;) {
        // Every other child is inside the index nearly all the time.
        const bool sound = round % 2 == 0 ? serve_one(own.value().get(), &dice)
                                          : take_and_give_back(own.value().get(), &dice);
        if (!sound) ::_exit(4);
      }
    }
    const auto end =
        std::chrono::steady_clock::now() + std::chrono::microseconds(5000 + random() % 5000);
    while (std::chrono::steady_clock::now() < end) ASSERT_TRUE(serve_one(&pages, &random));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended with " << WEXITSTATUS(status);
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(serve_one(&pages, &random)) << "round " << round;
  }
  const HostPagesStats stats = pages.stats();
  EXPECT_EQ(stats.misused, 0u);
  EXPECT_EQ(stats.empty + stats.loading + stats.ready + stats.lost, 600u);
}

}  // namespace
}  // namespace ucm
