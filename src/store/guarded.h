// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/metric_registry.h"
#include "store/breaker.h"
#include "ucm/store.h"

namespace ucm {

struct Guarding {
  // A stage that has answered no row of its loads, or dumps, for so long while there were some is
  // taken to hang.
  std::chrono::nanoseconds silence_limit = std::chrono::seconds(15);
  Breaker::Clock clock = std::chrono::steady_clock::now;  // for tests
};

// A storage stage below another one that keeps blocks: when it keeps failing as a whole (timeout,
// io_error, unavailable) or hangs without a word, it is left alone for a while, so that the stage
// above answers at once instead of waiting for its time limit with every call. Meanwhile its
// lookups find nothing, loads and dumps are `unavailable`. Lookups, loads and dumps are judged each
// for itself: a disk may still read what it can not write. What can not be asked for is not loaded
// or dumped either, what can not be loaded is not found, and what hangs while it is read is not
// written to.
StorePtr make_guarded(StorePtr stage, std::string name,
                      std::shared_ptr<base::MetricRegistry> metrics, const Guarding& guarding = {});

}  // namespace ucm
