// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ucm/metrics.h"

namespace ucm::base {

using Labels = std::vector<std::pair<std::string, std::string>>;

// Handles into a MetricRegistry. Updates are relaxed atomics: cheap from any thread.
class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void set(int64_t n) { value_.store(n, std::memory_order_relaxed); }
  void add(int64_t n) { value_.fetch_add(n, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// Seconds in fixed buckets from 10 us to 30 s.
class Histogram {
 public:
  static std::span<const double> bounds();
  void observe(double seconds);
  std::vector<uint64_t> counts() const;
  double sum() const { return static_cast<double>(sum_ns_.load(std::memory_order_relaxed)) * 1e-9; }

 private:
  static constexpr size_t kBuckets = 15;
  std::atomic<uint64_t> counts_[kBuckets] = {};
  std::atomic<uint64_t> sum_ns_{0};
};

// The metrics of one pipeline. Handles stay valid as long as the registry. Thread-safe.
class MetricRegistry {
 public:
  Counter& counter(std::string name, Labels labels);
  Gauge& gauge(std::string name, Labels labels);
  Histogram& histogram(std::string name, Labels labels);
  std::vector<MetricSample> samples() const;

 private:
  template <typename T>
  struct Named {
    Named(std::string n, Labels l) : name(std::move(n)), labels(std::move(l)) {}
    std::string name;
    Labels labels;
    T metric;
  };
  template <typename T>
  T& find_or_add(std::deque<Named<T>>* metrics, std::string name, Labels labels);

  mutable std::mutex mutex_;
  std::deque<Named<Counter>> counters_;
  std::deque<Named<Gauge>> gauges_;
  std::deque<Named<Histogram>> histograms_;
};

}  // namespace ucm::base
