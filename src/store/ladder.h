// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ucm/store.h"

namespace ucm {

// Two storage stages as one: `upper` is asked first, what only `lower` has is copied up while it is
// loaded, dumps go to both (done when both are; a failure of `upper` alone is tolerated and logged
// by its metrics). Longer pipelines nest: Ladder(Disk, Ladder(Posix, ...)).
StorePtr make_ladder(StorePtr upper, StorePtr lower);

}  // namespace ucm
