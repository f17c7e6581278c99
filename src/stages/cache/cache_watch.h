// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "base/worker_group.h"
#include "stages/cache/cache_flow.h"

namespace ucm::stages::cache {

// The thread that looks at a shared pool for rows that wait for other processes. It sleeps until
// there are such rows, then until the pool changes, and now and then looks whether those whose work
// is waited for are still there.
class CacheWatch {
 public:
  explicit CacheWatch(std::shared_ptr<CacheFlow> flow);
  ~CacheWatch();
  // False: there was no thread for it.
  bool runs() const { return runs_; }

 private:
  const std::shared_ptr<CacheFlow> flow_;
  base::WorkerGroup thread_{"ucm-share", 1};
  bool runs_ = false;
};

}  // namespace ucm::stages::cache
