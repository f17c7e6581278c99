// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "stages/posix/posix_blocks.h"
#include "stages/posix/posix_crew.h"
#include "stages/posix/posix_lease.h"
#include "stages/posix/posix_options.h"
#include "store/stage_metrics.h"

namespace ucm::posix {

// Keeps every root below its capacity, and each namespace with a quota below that, oldest use
// first; reaps what dead writers left behind. Of all processes that share the store one collects at
// a time. Also measures what the roots hold, for the metrics. One thread, asleep between passes.
// Thread-safe.
class Collector {
 public:
  Collector(const PosixOptions& options, std::shared_ptr<BlockSet> blocks,
            std::shared_ptr<StageMetrics> metrics);
  ~Collector() { close(); }

  // False: there was no thread for it.
  bool runs() const { return runs_; }
  // This process has written so many bytes; enough of them start a pass.
  void wrote(uint64_t bytes);
  // A write found no room on the disk: starts a pass.
  void out_of_space();
  // What the namespace of this store may still write.
  QuotaRoom* room();
  // A write of so many bytes found no room there: starts a pass.
  void no_room(uint64_t bytes);
  void close();

 private:
  struct State;
  static void run(const std::shared_ptr<State>& state);

  const std::shared_ptr<State> state_;
  WorkerCrew crew_;
  bool runs_ = false;
};

}  // namespace ucm::posix
