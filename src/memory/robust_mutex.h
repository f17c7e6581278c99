// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>

namespace ucm::memory {

// A lock in memory that several processes share. A thread that dies inside leaves it to the next
// one, which is told so and has to repair what the lock guards. The object is never destroyed: it
// goes with its memory.
class RobustMutex {
 public:
  // Once, before anybody else can see the memory.
  void init();
  // True: the owner before died inside. Repair, then call `repaired` before `unlock`.
  [[nodiscard]] bool lock();
  void repaired();
  void unlock();

 private:
  pthread_mutex_t mutex_;
};

// A count in shared memory that threads of any process can sleep on until it changes.
class SharedEvent {
 public:
  uint32_t now() const { return count_.load(std::memory_order_acquire); }
  void signal();
  // Returns when the count is no longer `seen`, after `limit`, or for no reason at all.
  void wait(uint32_t seen, std::chrono::milliseconds limit);

 private:
  std::atomic<uint32_t> count_;
};
static_assert(sizeof(SharedEvent) == 4 && std::atomic<uint32_t>::is_always_lock_free);

}  // namespace ucm::memory
