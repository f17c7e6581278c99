// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ucm::io {

// What a rule may disturb; `any` in a rule stands for all of them.
enum class Operation : uint8_t {
  any,
  open,
  read,
  write,
  sync,
  allocate,
  rename,
  link,
  unlink,
  mkdir,
  list,
  stat,
  map,
  lock,
};

// A disturbance of the file system calls of this process: operations whose path contains `path`,
// after `skip` of them, `count` times. `error` is the errno to report; `cut` makes a transfer
// short; `delay_ms` sleeps first. Several effects of one rule add up.
struct FaultRule {
  Operation operation = Operation::any;
  std::string path;
  uint32_t skip = 0;
  uint32_t count = UINT32_MAX;
  int error = 0;
  bool cut = false;
  uint32_t delay_ms = 0;
};

struct FaultEffect {
  int error = 0;
  bool cut = false;
};

// Replaces all rules; an empty list switches the layer off. Thread-safe, process-wide.
void set_faults(std::vector<FaultRule> rules);
// How many times a rule has taken effect since the last `set_faults`.
uint64_t faults_taken();

namespace detail {
extern std::atomic<bool> faults_on;
FaultEffect take_fault(Operation operation, std::string_view path);
}  // namespace detail

// What to do to this call. One relaxed load when no rules are set.
inline FaultEffect fault(Operation operation, std::string_view path) {
  if (!detail::faults_on.load(std::memory_order_relaxed)) return {};
  return detail::take_fault(operation, path);
}

}  // namespace ucm::io
