// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "base/metric_registry.h"
#include "ucm/store.h"

namespace ucm {

// Two storage stages as one: `upper` is asked first, what only `lower` has is copied up while it is
// loaded, dumps go to both (done when both are; a failure of `upper` alone is tolerated and logged
// by its metrics). A lookup that one of the two can not answer is answered with what the other one
// has, and counted in `partial_lookups`; only when that is nothing is it the failure.
// Longer pipelines nest: Ladder(Disk, Ladder(Posix, ...)).
StorePtr make_ladder(StorePtr upper, StorePtr lower,
                     std::shared_ptr<base::Counter> partial_lookups);

}  // namespace ucm
