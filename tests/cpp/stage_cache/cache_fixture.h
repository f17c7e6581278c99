// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include "memory_store.h"
#include "store/stage.h"
#include "test_blocks.h"

namespace ucm::test {

// A Cache over a MemoryStore the test can steer.
class CacheOverMemory {
 public:
  explicit CacheOverMemory(const Options& options,
                           BlockLayout layout = BlockLayout::make({1000, 3000}, 3, 5).value(),
                           bool with_next = true)
      : layout_(layout), metrics_(std::make_shared<base::MetricRegistry>()) {
    StageContext context;
    context.options = &options;
    context.layout = layout;
    context.metrics = metrics_;
    context.device = open_device("cpu", 0).value();
    if (with_next) {
      auto below = std::make_unique<MemoryStore>(layout.flat());
      below_ = below.get();
      context.next = std::move(below);
    }
    store_ = find_stage("Cache")->make(std::move(context)).value();
  }

  Store& store() { return *store_; }
  MemoryStore& below() { return *below_; }
  const BlockLayout& layout() const { return layout_; }
  double metric(const std::string& name) const {
    double sum = 0;
    for (const MetricSample& sample : metrics_->samples()) {
      if (sample.name == name) sum += sample.value;
    }
    return sum;
  }

 private:
  BlockLayout layout_;
  std::shared_ptr<base::MetricRegistry> metrics_;
  MemoryStore* below_ = nullptr;
  StorePtr store_;
};

inline Options cache_options(int64_t slots, double timeout_s = 20) {
  return {{"buffer_number", slots}, {"prefault", false}, {"timeout_s", timeout_s}};
}

}  // namespace ucm::test
