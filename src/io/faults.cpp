// SPDX-License-Identifier: Apache-2.0
#include "io/faults.h"

#include <fnmatch.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace ucm::io {
namespace {

struct ActiveRule {
  FaultRule rule;
  uint64_t dice = 0;
};

struct FaultTable {
  std::mutex mutex;
  std::condition_variable replaced;
  std::vector<ActiveRule> rules;
  uint64_t taken = 0;
  uint64_t generation = 0;
};

// Never destroyed: worker threads may still ask while the process ends.
FaultTable& table() {
  static FaultTable* const kTable = new FaultTable;
  return *kTable;
}

// The next number of a splitmix sequence, from 0 to below 1.
double roll(uint64_t* state) {
  uint64_t x = *state += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return static_cast<double>((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

bool fits(const FaultRule& rule, Operation operation, std::string_view path) {
  if (rule.operation != Operation::any && rule.operation != operation) return false;
  if (rule.path.find_first_of("*?") == std::string::npos) {
    return path.find(rule.path) != std::string_view::npos;
  }
  return ::fnmatch(rule.path.c_str(), std::string(path).c_str(), 0) == 0;
}

// Whether a rule that fits takes effect this time.
bool strikes(ActiveRule* active) {
  FaultRule& rule = active->rule;
  if (rule.skip > 0) {
    --rule.skip;
    return false;
  }
  if (rule.count == 0) return false;
  if (rule.probability < 1 && roll(&active->dice) >= rule.probability) return false;
  if (rule.count != UINT32_MAX) --rule.count;
  return true;
}

}  // namespace

namespace detail {

std::atomic<unsigned> layers_on{0};

void switch_layer(unsigned bit, bool on) {
  if (on) {
    layers_on.fetch_or(bit);
  } else {
    layers_on.fetch_and(~bit);
  }
}

FaultEffect take_fault(Operation operation, std::string_view path) {
  FaultEffect effect;
  effect.recorded = (layers_on.load(std::memory_order_relaxed) & 2u) != 0;
  uint32_t delay_ms = 0;
  {
    FaultTable& faults = table();
    std::unique_lock lock(faults.mutex);
    for (ActiveRule& active : faults.rules) {
      if (!fits(active.rule, operation, path) || !strikes(&active)) continue;
      ++faults.taken;
      effect.error = active.rule.error;
      effect.cut = active.rule.cut;
      delay_ms = active.rule.delay_ms;
      if (active.rule.hang) {
        const uint64_t then = faults.generation;
        // The rules may be gone after the wait: nothing of `active` is used any more.
        faults.replaced.wait(lock, [&] { return faults.generation != then; });
      }
      break;
    }
  }
  if (delay_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  return effect;
}

}  // namespace detail
}  // namespace ucm::io

namespace ucm {

void set_faults(std::vector<FaultRule> rules) {
  io::FaultTable& faults = io::table();
  {
    const std::lock_guard lock(faults.mutex);
    faults.rules.clear();
    for (FaultRule& rule : rules) faults.rules.push_back({std::move(rule), 0});
    for (io::ActiveRule& active : faults.rules) active.dice = active.rule.seed;
    faults.taken = 0;
    ++faults.generation;
    io::detail::switch_layer(1, !faults.rules.empty());
  }
  faults.replaced.notify_all();
}

uint64_t faults_taken() {
  io::FaultTable& faults = io::table();
  const std::lock_guard lock(faults.mutex);
  return faults.taken;
}

}  // namespace ucm
