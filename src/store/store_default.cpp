// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ucm/store.h"

namespace ucm {

Status Store::renew(std::span<const BlockKey>) { return {}; }

// A store that never evicts on its own account, or keeps nothing, has nothing to pin.
Status Store::pin(std::span<const BlockKey>, std::span<uint8_t> pinned) {
  std::fill(pinned.begin(), pinned.end(), uint8_t{0});
  return {};
}

Status Store::unpin(std::span<const BlockKey>) { return {}; }

}  // namespace ucm
