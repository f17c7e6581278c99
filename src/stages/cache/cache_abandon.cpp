// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/cache_flow.h"

namespace ucm::stages::cache {

std::vector<BlockKey> CacheFlow::abandon(std::span<const BlockKey> keys) {
  std::vector<BlockKey> complete;
  Work work;
  {
    const Guard guard(this);
    SlotTable& slots = *parts_.slots;
    for (const BlockKey& key : keys) {
      const uint32_t slot = slots.find(key);
      if (slot != SlotTable::kNone && slots.state(slot) == SlotState::gathering) {
        slots.doom(slot);
      } else {
        complete.push_back(key);
      }
    }
    pump(&work);
  }
  act(std::move(work));
  return complete;
}

}  // namespace ucm::stages::cache
