// SPDX-License-Identifier: Apache-2.0
#include "memory/robust_mutex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <ctime>

namespace ucm::memory {

void RobustMutex::init() {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex_, &attributes);
  pthread_mutexattr_destroy(&attributes);
}

bool RobustMutex::lock() { return pthread_mutex_lock(&mutex_) == EOWNERDEAD; }

void RobustMutex::repaired() { pthread_mutex_consistent(&mutex_); }

void RobustMutex::unlock() { pthread_mutex_unlock(&mutex_); }

void SharedEvent::signal() {
  count_.fetch_add(1, std::memory_order_acq_rel);
  syscall(SYS_futex, &count_, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void SharedEvent::wait(uint32_t seen, std::chrono::milliseconds limit) {
  const timespec relative = {static_cast<time_t>(limit.count() / 1000),
                             static_cast<long>(limit.count() % 1000 * 1000000)};
  syscall(SYS_futex, &count_, FUTEX_WAIT, seen, &relative, nullptr, 0);
}

}  // namespace ucm::memory
