// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>

namespace ucm {

// Stops calls that keep failing, and finds out by itself when they work again. After kFailures in a
// row calls are refused for a pause; then one passes as a probe: its success lets all others pass
// again, its failure doubles the pause, up to kLongestPause. Thread-safe.
class Breaker {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Clock = std::function<Time()>;

  // As in python/ucm/integration/common/fallback.py.
  static constexpr uint32_t kFailures = 5;
  static constexpr std::chrono::seconds kFirstPause{5};
  static constexpr std::chrono::seconds kLongestPause{120};

  explicit Breaker(Clock clock) : clock_(std::move(clock)) {}

  // Whether a call may be made; a probe is one. Who is told yes reports how the call went.
  bool allows();
  // Whether `allows` would say no. Takes no probe.
  bool refuses() const;
  // A call went well. True when this lets the others pass again.
  bool succeeded();
  // A call failed; one whose answer has not come for long weighs as much as several. True when from
  // now on calls are refused.
  bool failed(uint32_t times = 1);
  bool open() const { return open_.load(std::memory_order_acquire); }

 private:
  bool waits(Time now) const { return now < open_until_ || now < probing_until_; }

  const Clock clock_;
  mutable std::mutex mutex_;
  // Read without the lock while all is well.
  std::atomic<bool> open_{false};
  std::atomic<uint32_t> failures_{0};  // in a row
  std::chrono::nanoseconds pause_{kFirstPause};
  Time open_until_{};
  // A probe whose outcome never comes back must not keep the next one away for ever.
  Time probing_until_{};
};

}  // namespace ucm
