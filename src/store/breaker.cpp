// SPDX-License-Identifier: Apache-2.0
#include "store/breaker.h"

#include <algorithm>

namespace ucm {

bool Breaker::allows() {
  if (!open_.load(std::memory_order_acquire)) return true;
  const std::lock_guard lock(mutex_);
  if (!open_.load(std::memory_order_relaxed)) return true;
  const Time now = clock_();
  if (waits(now)) return false;
  probing_until_ = now + pause_;
  return true;
}

bool Breaker::refuses() const {
  if (!open_.load(std::memory_order_acquire)) return false;
  const std::lock_guard lock(mutex_);
  return open_.load(std::memory_order_relaxed) && waits(clock_());
}

bool Breaker::succeeded() {
  if (failures_.load(std::memory_order_acquire) == 0) return false;
  const std::lock_guard lock(mutex_);
  failures_.store(0, std::memory_order_release);
  pause_ = kFirstPause;
  probing_until_ = {};
  return open_.exchange(false, std::memory_order_acq_rel);
}

bool Breaker::failed(uint32_t times) {
  const std::lock_guard lock(mutex_);
  const uint32_t failures = failures_.fetch_add(times, std::memory_order_acq_rel) + times;
  const Time now = clock_();
  if (!open_.load(std::memory_order_relaxed)) {
    if (failures < kFailures) return false;
    open_until_ = now + pause_;
    open_.store(true, std::memory_order_release);
    return true;
  }
  // Calls that began before the pause say nothing about its end; the probe does.
  if (now < open_until_) return false;
  pause_ = std::min<std::chrono::nanoseconds>(pause_ * 2, kLongestPause);
  open_until_ = now + pause_;
  probing_until_ = {};
  return false;
}

}  // namespace ucm
