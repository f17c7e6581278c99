// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "ucm/key.h"
#include "ucm/status.h"

namespace ucm {

enum class Direction : uint8_t { load, dump };

// Rows of (key, shard) and a matrix of addresses, all going one way. The spans are borrowed until
// the call that takes the batch returns; the memory behind the addresses until the task is done
// (dump: until `released`). Addresses are row-major: piece j of row i is `addresses[i * pieces +
// j]`.
struct Batch {
  std::span<const BlockKey> keys;
  std::span<const uint32_t> shards;      // same length as keys; empty = shard 0 everywhere
  std::span<const uintptr_t> addresses;  // keys.size() * layout.pieces()
  // Dumps only, empty or one per row: the digest of the row's whole block, taken with the seed the
  // stage names (Store::digest_seed), from whoever has read the bytes anyway.
  std::span<const Digest> digests;
  // A platform event (cudaEvent_t, ...) the copies wait for before they touch the addresses; 0 =
  // none.
  uintptr_t event = 0;
  // The addresses are host memory although the pipeline moves device memory; `event` is 0 then.
  bool on_host = false;
  // Optional: called as each row ends, before the task is done, on a thread of the stage.
  // It must return quickly and must not wait for anything.
  std::function<void(uint32_t row, const Status& status)> on_row;

  size_t rows() const { return keys.size(); }
  uint32_t shard(size_t row) const { return shards.empty() ? 0 : shards[row]; }
};

}  // namespace ucm
