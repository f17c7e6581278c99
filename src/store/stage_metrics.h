// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/metric_registry.h"
#include "ucm/batch.h"
#include "ucm/status.h"

namespace ucm {

// What one namespace takes of a stage's capacity; lives as long as the registry.
struct NamespaceMetrics {
  base::Gauge& quota_bytes;
  base::Gauge& used_bytes;
  base::Gauge& blocks;
  base::Counter& evicted;
};

// The metrics every stage reports, labelled with its name. Handles live as long as the registry,
// which this object keeps alive.
class StageMetrics {
 public:
  StageMetrics(std::shared_ptr<base::MetricRegistry> registry, std::string stage);

  void looked_up(size_t asked, size_t present) {
    lookup_blocks_.add(asked);
    lookup_hit_blocks_.add(present);
  }
  // A batch of `blocks` blocks went one way in `seconds`.
  void transferred(Direction direction, size_t blocks, size_t bytes, double seconds);
  // Counts a failure by cause ("no_space", "timeout", ...).
  void failed(const Status& status, size_t blocks = 1);
  // A stored block was dropped because it could not be trusted: "checksum", "truncated", ...
  void dropped(const char* cause);

  base::Counter& evicted() { return evicted_blocks_; }
  base::Gauge& capacity_bytes() { return capacity_bytes_; }
  base::Gauge& used_bytes() { return used_bytes_; }
  base::Gauge& blocks() { return blocks_; }
  base::Gauge& queue_depth() { return queue_depth_; }
  base::Gauge& pinned_blocks() { return pinned_blocks_; }
  // Blocks that were not kept: it was their first use, or their namespace had no room.
  base::Counter& refused_blocks() { return refused_blocks_; }
  // Lookups answered with what this stage has, because the one below could not be asked.
  base::Counter& partial_lookups() { return partial_lookups_; }
  NamespaceMetrics of_namespace(const std::string& name);

 private:
  struct Way {
    base::Counter& bytes;
    base::Counter& blocks;
    base::Histogram& seconds;
  };
  Way way(const char* direction);

  std::shared_ptr<base::MetricRegistry> registry_;
  const std::string stage_;
  base::Counter& lookup_blocks_;
  base::Counter& lookup_hit_blocks_;
  Way load_;
  Way dump_;
  base::Counter& evicted_blocks_;
  base::Gauge& capacity_bytes_;
  base::Gauge& used_bytes_;
  base::Gauge& blocks_;
  base::Gauge& queue_depth_;
  base::Gauge& pinned_blocks_;
  base::Counter& refused_blocks_;
  base::Counter& partial_lookups_;
};

// Seconds since construction.
class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ucm
