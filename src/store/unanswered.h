// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>

namespace ucm {

// What a stage has been asked for and has not answered yet. A stage that is silent for the limit
// while it is asked for something is taken to hang; one that is busy tells of a row now and then.
// Nobody watches the time: who calls next finds out. Thread-safe.
class Unanswered {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Era = uint64_t;

  explicit Unanswered(std::chrono::nanoseconds limit) : limit_(limit) {}

  // A transfer begins; what it is told goes to `over`.
  Era asked(Time now);
  // A row has ended.
  void heard(Time now) { heard_.store(now, std::memory_order_relaxed); }
  void over(Era era);
  bool any() const { return open_.load(std::memory_order_acquire) > 0; }
  // Once per silence: what has been asked by now is not waited for any more. A request that is lost
  // for good counts once.
  bool gives_up(Time now);

 private:
  bool silent(Time now) const {
    return any() && now - heard_.load(std::memory_order_relaxed) >= limit_;
  }

  const std::chrono::nanoseconds limit_;
  std::mutex mutex_;
  Era era_ = 0;
  std::atomic<size_t> open_{0};  // transfers of this era
  std::atomic<Time> heard_{};
};

}  // namespace ucm
