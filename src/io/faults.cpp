// SPDX-License-Identifier: Apache-2.0
#include "io/faults.h"

#include <chrono>
#include <mutex>
#include <thread>

namespace ucm::io {
namespace {

struct FaultTable {
  std::mutex mutex;
  std::vector<FaultRule> rules;
  uint64_t taken = 0;
};

// Never destroyed: worker threads may still ask while the process ends.
FaultTable& table() {
  static FaultTable* const kTable = new FaultTable;
  return *kTable;
}

}  // namespace

namespace detail {

std::atomic<bool> faults_on{false};

FaultEffect take_fault(Operation operation, std::string_view path) {
  FaultEffect effect;
  uint32_t delay_ms = 0;
  {
    FaultTable& faults = table();
    const std::lock_guard lock(faults.mutex);
    for (FaultRule& rule : faults.rules) {
      if (rule.operation != Operation::any && rule.operation != operation) continue;
      if (path.find(rule.path) == std::string_view::npos) continue;
      if (rule.skip > 0) {
        --rule.skip;
        continue;
      }
      if (rule.count == 0) continue;
      if (rule.count != UINT32_MAX) --rule.count;
      ++faults.taken;
      effect.error = rule.error;
      effect.cut = rule.cut;
      delay_ms = rule.delay_ms;
      break;
    }
  }
  if (delay_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  return effect;
}

}  // namespace detail

void set_faults(std::vector<FaultRule> rules) {
  FaultTable& faults = table();
  const std::lock_guard lock(faults.mutex);
  faults.rules = std::move(rules);
  faults.taken = 0;
  detail::faults_on.store(!faults.rules.empty(), std::memory_order_relaxed);
}

uint64_t faults_taken() {
  FaultTable& faults = table();
  const std::lock_guard lock(faults.mutex);
  return faults.taken;
}

}  // namespace ucm::io
