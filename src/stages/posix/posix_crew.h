// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/worker_group.h"

namespace ucm::posix {

// Worker threads whose jobs may hang in a system call. `close` joins them when they come to an end
// within its patience; otherwise it leaves them to a waiting thread that joins them whenever the
// call returns. Jobs therefore own (by shared pointer) whatever they touch. Thread-safe.
class WorkerCrew {
 public:
  WorkerCrew(const std::string& name, unsigned threads);
  ~WorkerCrew() { close(std::chrono::nanoseconds::zero()); }

  // False after `close` and without a thread: the job is dropped. Jobs must not throw.
  bool submit(base::Lane lane, base::WorkerGroup::Job job);
  // Whether there is a thread.
  bool ready();
  // Jobs submitted and not ended.
  size_t open_jobs() const;
  // Idempotent. Refuses jobs from now on.
  void close(std::chrono::nanoseconds patience);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace ucm::posix
