// SPDX-License-Identifier: Apache-2.0
#include "base/affinity.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <future>
#include <thread>

#include "base/worker_group.h"

namespace ucm::base {
namespace {

int allowed() {
  cpu_set_t set;
  EXPECT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  return CPU_COUNT(&set);
}

void pin_to_one() {
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  int first = 0;
  while (!CPU_ISSET(first, &set)) ++first;
  CPU_ZERO(&set);
  CPU_SET(first, &set);
  ASSERT_EQ(sched_setaffinity(0, sizeof(set), &set), 0);
}

TEST(Affinity, WorkersOfAPinnedThreadMayRunWhereTheProcessMay) {
  const int before = allowed();
  std::thread engine([before] {
    pin_to_one();
    EXPECT_EQ(allowed(), 1);
    WorkerGroup group("affinity", 1);
    std::promise<int> seen;
    group.submit(Lane::normal, [&seen] { seen.set_value(allowed()); });
    EXPECT_EQ(seen.get_future().get(), before);
    EXPECT_EQ(allowed(), 1);  // the engine's own thread stays where it was put
  });
  engine.join();
}

}  // namespace
}  // namespace ucm::base
