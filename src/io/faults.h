// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cerrno>
#include <string_view>

#include "ucm/fault_rules.h"

// The layer below all file system calls of ucm. Who makes a call asks `fault` first, and tells the
// recorder (recorder.h) of a change when the answer says so.
namespace ucm::io {

using ucm::FaultRule;
using ucm::faults_taken;
using ucm::set_faults;
using Operation = FileOperation;

struct FaultEffect {
  int error = 0;
  bool cut = false;
  bool recorded = false;  // a recording is under way
};

namespace detail {
// Rules are set (bit 0), a recording is under way (bit 1).
extern std::atomic<unsigned> layers_on;
void switch_layer(unsigned bit, bool on);
FaultEffect take_fault(Operation operation, std::string_view path);
}  // namespace detail

// What to do to this call. One relaxed load and one branch when the layer is off.
inline FaultEffect fault(Operation operation, std::string_view path) {
  if (detail::layers_on.load(std::memory_order_relaxed) == 0) return {};
  return detail::take_fault(operation, path);
}

// Rules are set: what a kernel answers from memory has to take the way of what they disturb.
inline bool faults_set() { return (detail::layers_on.load(std::memory_order_relaxed) & 1u) != 0; }

// Makes a call that answers 0 for success, through the layer, and again while it is interrupted.
// Answers an errno, 0 = success.
template <typename Call>
int call_through(Operation operation, std::string_view path, Call call) {
  int error = 0;
  do {
    error = fault(operation, path).error;
    if (error == 0 && call() != 0) error = errno;
  } while (error == EINTR);
  return error;
}

}  // namespace ucm::io
