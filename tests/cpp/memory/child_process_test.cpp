// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <poll.h>

#include <atomic>
#include <thread>

#include "processes.h"

namespace ucm::test {
namespace {

TEST(ChildProcessTest, the_child_of_a_test_that_is_killed_dies_with_it) {
  int held[2];
  ASSERT_EQ(::pipe(held), 0);
  SharedValue<std::atomic<bool>> begun;
  Child killed([&] {
    const Child inner([] { return ::pause(); });
    *begun = true;
    return ::pause();
  });
  while (!*begun) std::this_thread::yield();
  ::close(held[1]);
  EXPECT_TRUE(killed.kill());
  pollfd end = {held[0], POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 30000), 1) << "the inner child still holds the pipe";
  char byte;
  EXPECT_EQ(::read(held[0], &byte, 1), 0);
  ::close(held[0]);
}

}  // namespace
}  // namespace ucm::test
