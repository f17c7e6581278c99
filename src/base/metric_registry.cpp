// SPDX-License-Identifier: Apache-2.0
#include "base/metric_registry.h"

#include <algorithm>
#include <array>

namespace ucm::base {
namespace {

constexpr std::array<double, 14> kBounds = {1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2,
                                            3e-2, 1e-1, 3e-1, 1.0,  3.0,  10.0, 30.0};

}  // namespace

std::span<const double> Histogram::bounds() { return kBounds; }

void Histogram::observe(double seconds) {
  static_assert(kBuckets == kBounds.size() + 1);
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(static_cast<uint64_t>(std::max(seconds, 0.0) * 1e9), std::memory_order_relaxed);
}

std::vector<uint64_t> Histogram::counts() const {
  std::vector<uint64_t> out(kBuckets);
  for (size_t i = 0; i < kBuckets; ++i) out[i] = counts_[i].load(std::memory_order_relaxed);
  return out;
}

template <typename T>
T& MetricRegistry::find_or_add(std::deque<Named<T>>* metrics, std::string name, Labels labels) {
  const std::lock_guard lock(mutex_);
  for (Named<T>& named : *metrics) {
    if (named.name == name && named.labels == labels) return named.metric;
  }
  return metrics->emplace_back(std::move(name), std::move(labels)).metric;
}

Counter& MetricRegistry::counter(std::string name, Labels labels) {
  return find_or_add(&counters_, std::move(name), std::move(labels));
}

Gauge& MetricRegistry::gauge(std::string name, Labels labels) {
  return find_or_add(&gauges_, std::move(name), std::move(labels));
}

Histogram& MetricRegistry::histogram(std::string name, Labels labels) {
  return find_or_add(&histograms_, std::move(name), std::move(labels));
}

std::vector<MetricSample> MetricRegistry::samples() const {
  const std::lock_guard lock(mutex_);
  std::vector<MetricSample> out;
  for (const auto& c : counters_) {
    out.push_back(
        {c.name, MetricKind::counter, c.labels, static_cast<double>(c.metric.value()), {}, {}});
  }
  for (const auto& g : gauges_) {
    out.push_back(
        {g.name, MetricKind::gauge, g.labels, static_cast<double>(g.metric.value()), {}, {}});
  }
  for (const auto& h : histograms_) {
    out.push_back({h.name,
                   MetricKind::histogram,
                   h.labels,
                   h.metric.sum(),
                   {kBounds.begin(), kBounds.end()},
                   h.metric.counts()});
  }
  return out;
}

}  // namespace ucm::base
