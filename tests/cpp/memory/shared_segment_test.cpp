// SPDX-License-Identifier: Apache-2.0
#include "memory/shared_segment.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <functional>
#include <thread>

#include "memory/robust_mutex.h"
#include "processes.h"

namespace ucm::memory {
namespace {

using test::Child;

constexpr size_t kBytes = 1 << 16;

struct Content {
  std::atomic<uint64_t> number;
  RobustMutex mutex;
};

void prepare(std::byte* data) { reinterpret_cast<Content*>(data)->mutex.init(); }

class SharedSegmentTest : public ::testing::Test {
 protected:
  void TearDown() override { ::unlink(path_.c_str()); }
  std::unique_ptr<SharedSegment> join() {
    auto joined = SharedSegment::join(path_, kBytes, prepare);
    EXPECT_TRUE(joined.ok()) << joined.status().to_string();
    return joined.ok() ? std::move(joined).value() : nullptr;
  }
  static Content& content(const SharedSegment& segment) {
    return *reinterpret_cast<Content*>(segment.data());
  }
  bool file_exists() const { return ::access(path_.c_str(), F_OK) == 0; }

  const std::string path_ = ::testing::TempDir() + "ucm-segment-" + std::to_string(::getpid()) +
                            "-" + ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(SharedSegmentTest, processes_that_meet_see_the_same_memory) {
  const auto mine = join();
  content(*mine).number = 7;
  Child child([&] {
    const auto theirs = join();
    if (content(*theirs).number != 7 || theirs->member() == mine->member()) return 1;
    content(*theirs).number = 8;
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(content(*mine).number, 8u);
}

TEST_F(SharedSegmentTest, memory_outlives_whoever_made_it) {
  std::atomic<bool> never{false};
  test::SharedValue<std::atomic<int>> step;
  Child maker([&] {
    const auto segment = join();
    content(*segment).number = 42;
    *step = 1;
    while (!never) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return 0;
  });
  while (*step != 1) std::this_thread::yield();
  const auto mine = join();
  EXPECT_TRUE(maker.kill());
  EXPECT_EQ(content(*mine).number, 42u);
  const auto later = join();
  EXPECT_EQ(content(*later).number, 42u);
}

TEST_F(SharedSegmentTest, nothing_remains_when_the_last_one_has_left) {
  auto first = join();
  auto second = join();
  first.reset();
  EXPECT_TRUE(file_exists());
  second.reset();
  EXPECT_FALSE(file_exists());
  EXPECT_EQ(SharedSegment::find(path_).status().code(), Code::not_found);
}

TEST_F(SharedSegmentTest, memory_of_killed_processes_is_gone_and_a_fresh_one_takes_its_place) {
  Child maker([&] {
    const auto segment = join();
    content(*segment).number = 42;
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(maker.wait(), -1 - SIGKILL);
  EXPECT_TRUE(file_exists());
  EXPECT_EQ(SharedSegment::find(path_).status().code(), Code::not_found);
  EXPECT_FALSE(file_exists());
  EXPECT_EQ(content(*join()).number, 0u);
}

TEST_F(SharedSegmentTest, a_member_is_alive_until_its_process_ends) {
  const auto mine = join();
  test::SharedValue<std::atomic<int>> number;
  *number = -1;
  Child child([&] {
    const auto theirs = join();
    *number = static_cast<int>(theirs->member());
    ::pause();
    return 0;
  });
  while (*number < 0) std::this_thread::yield();
  const auto theirs = static_cast<unsigned>(number->load());
  EXPECT_TRUE(mine->alive(theirs));
  EXPECT_TRUE(mine->alive(mine->member()));
  EXPECT_TRUE(child.kill());
  EXPECT_FALSE(mine->alive(theirs));
  EXPECT_EQ(join()->member(), theirs);
}

TEST_F(SharedSegmentTest, a_child_that_outlives_its_parent_does_not_keep_it_alive) {
  const auto mine = join();
  test::SharedValue<std::atomic<int>> number;
  *number = -1;
  test::SharedValue<std::atomic<int>> orphan;
  Child parent([&] {
    const auto theirs = join();
    const pid_t forked = ::fork();
    if (forked == 0) {
      ::pause();
      ::_exit(0);
    }
    *orphan = forked;
    *number = static_cast<int>(theirs->member());
    ::pause();
    return 0;
  });
  while (*number < 0) std::this_thread::yield();
  EXPECT_TRUE(mine->alive(static_cast<unsigned>(number->load())));
  EXPECT_TRUE(parent.kill());
  EXPECT_FALSE(mine->alive(static_cast<unsigned>(number->load())));
  ::kill(*orphan, SIGKILL);
}

TEST_F(SharedSegmentTest, the_sixty_fifth_member_is_told_so) {
  std::vector<std::unique_ptr<SharedSegment>> members;
  for (unsigned i = 0; i < SharedSegment::kMembers; ++i) members.push_back(join());
  EXPECT_EQ(SharedSegment::join(path_, kBytes, prepare).status().code(), Code::unavailable);
  members.pop_back();
  EXPECT_NE(join(), nullptr);
}

TEST_F(SharedSegmentTest, lines_that_name_anything_else_are_passed_over) {
  std::ofstream(path_) << "0123456789abcdef0123456789abcdef\n"
                       << ::getpid() << " 0\n"
                       << ::getpid() << " 99999\n1 1\nend\n";
  const auto mine = join();
  EXPECT_EQ(content(*mine).number, 0u);
}

TEST_F(SharedSegmentTest, what_is_no_file_at_the_meeting_place_is_answered_at_once) {
  const std::string elsewhere = path_ + "-elsewhere";
  const std::array<std::function<int()>, 4> obstacles = {
      [&] { return ::mkdir(path_.c_str(), 0700); },
      [&] { return ::mkfifo(path_.c_str(), 0600); },
      [&] { return ::symlink(elsewhere.c_str(), path_.c_str()); },
      [&] { return ::symlink("/dev/zero", path_.c_str()); },
  };
  for (size_t i = 0; i < obstacles.size(); ++i) {
    ASSERT_EQ(obstacles[i](), 0);
    const auto joined = SharedSegment::join(path_, kBytes, prepare);
    EXPECT_FALSE(joined.ok()) << "obstacle " << i;
    EXPECT_NE(joined.status().message().find(path_), std::string::npos) << "obstacle " << i;
    EXPECT_FALSE(SharedSegment::find(path_).ok()) << "obstacle " << i;
    ASSERT_EQ(::remove(path_.c_str()), 0) << "obstacle " << i << " is left where it is";
  }
  EXPECT_NE(::access(elsewhere.c_str(), F_OK), 0) << "nothing is made where a link leads";
  EXPECT_NE(join(), nullptr);
}

TEST_F(SharedSegmentTest, a_lock_whose_owner_was_killed_says_so_to_the_next_one) {
  const auto mine = join();
  Child child([&] {
    const auto theirs = join();
    (void)content(*theirs).mutex.lock();
    ::raise(SIGKILL);
    return 0;
  });
  EXPECT_EQ(child.wait(), -1 - SIGKILL);
  RobustMutex& mutex = content(*mine).mutex;
  EXPECT_TRUE(mutex.lock());
  mutex.repaired();
  mutex.unlock();
  EXPECT_FALSE(mutex.lock());
  mutex.unlock();
}

TEST_F(SharedSegmentTest, processes_that_come_and_go_at_once_never_meet_in_two_places) {
  test::SharedValue<std::atomic<int>> inside;
  test::SharedValue<std::atomic<int>> crowded;
  std::vector<Child> children;
  for (int i = 0; i < 4; ++i) {
    children.emplace_back([&] {
      for (int round = 0; round < 60; ++round) {
        const auto segment = join();
        // Two memories would have two locks.
        (void)content(*segment).mutex.lock();
        if (inside->fetch_add(1) != 0) ++*crowded;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        --*inside;
        content(*segment).mutex.unlock();
      }
      return 0;
    });
  }
  for (Child& child : children) EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(*crowded, 0);
  EXPECT_FALSE(file_exists());
}

TEST(RuntimeDirectory, IsRefusedWhenOthersCanEnterIt) {
  const std::string folder = ::testing::TempDir() + "ucm-runtime-" + std::to_string(::getpid());
  ASSERT_EQ(::mkdir(folder.c_str(), 0700), 0);
  ::setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
  const auto made = runtime_directory();
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made.value(), folder + "/ucm");
  ASSERT_EQ(::chmod(made.value().c_str(), 0755), 0);
  EXPECT_EQ(runtime_directory().status().code(), Code::unavailable);
  ::unsetenv("XDG_RUNTIME_DIR");
  ::rmdir(made.value().c_str());
  ::rmdir(folder.c_str());
}

}  // namespace
}  // namespace ucm::memory
