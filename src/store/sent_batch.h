// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ucm/store.h"

namespace ucm {

// A batch of whole blocks that one stage sends to another. It owns its rows.
struct SentBatch {
  std::vector<BlockKey> keys;
  std::vector<uintptr_t> addresses;
  std::vector<Digest> digests;  // empty or one per row, see Batch::digests

  void add(const BlockKey& key, uintptr_t address) {
    keys.push_back(key);
    addresses.push_back(address);
  }
};

// Sends it. `on_row` is called exactly once for every row, also when the stage refuses the batch as
// a whole; `on_done` once after that. Both may run before `send` returns, on any thread.
void send(Store& stage, Direction direction, SentBatch rows,
          std::function<void(uint32_t row, const Status& status)> on_row,
          std::function<void()> on_done);

}  // namespace ucm
