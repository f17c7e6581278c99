// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ucm/batch.h"
#include "ucm/layout.h"
#include "ucm/status.h"

namespace ucm {

// invalid_argument, with what was expected, unless the batch fits the layout: as many shards and
// addresses as the keys ask for, shard numbers in range, no null address.
Status check_batch(const Batch& batch, const BlockLayout& layout);

}  // namespace ucm
