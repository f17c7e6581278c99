// SPDX-License-Identifier: Apache-2.0
#include "base/affinity.h"

#include <dirent.h>
#include <sched.h>

#include <cstdlib>
#include <memory>

namespace ucm::base {

void widen_affinity() {
  const std::unique_ptr<DIR, int (*)(DIR*)> tasks(opendir("/proc/self/task"), closedir);
  if (!tasks) return;
  cpu_set_t all;
  CPU_ZERO(&all);
  while (const dirent* entry = readdir(tasks.get())) {
    const int task = std::atoi(entry->d_name);
    cpu_set_t one;
    if (task != 0 && sched_getaffinity(task, sizeof(one), &one) == 0) CPU_OR(&all, &all, &one);
  }
  // Nothing was read, or there are more processors than a cpu_set_t names: stay as it is.
  if (CPU_COUNT(&all) > 0) sched_setaffinity(0, sizeof(all), &all);
}

}  // namespace ucm::base
