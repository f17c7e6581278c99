// SPDX-License-Identifier: Apache-2.0
#include "ucm/layout.h"

namespace ucm {
namespace {

// A block beyond this is a unit mistake, not a KV block (the largest real ones are ~1 GiB).
constexpr size_t kMaxBlockBytes = size_t{1} << 36;

}  // namespace

Result<BlockLayout> BlockLayout::make(std::vector<size_t> piece_bytes, uint32_t shards,
                                      uint64_t id) {
  if (piece_bytes.empty()) {
    return make_status(Code::invalid_argument, "layout: a shard needs at least one piece");
  }
  if (shards == 0) {
    return make_status(Code::invalid_argument, "layout: a block needs at least one shard");
  }
  size_t shard_bytes = 0;
  for (size_t i = 0; i < piece_bytes.size(); ++i) {
    if (piece_bytes[i] == 0 || piece_bytes[i] > kMaxBlockBytes) {
      return make_status(Code::invalid_argument,
                         "layout: piece %zu has %zu bytes, expected 1 to %zu", i, piece_bytes[i],
                         kMaxBlockBytes);
    }
    shard_bytes += piece_bytes[i];
    if (shard_bytes > kMaxBlockBytes / shards) {
      return make_status(Code::invalid_argument,
                         "layout: a block of %u shards is larger than %zu bytes", shards,
                         kMaxBlockBytes);
    }
  }
  BlockLayout layout;
  layout.piece_bytes_ = std::move(piece_bytes);
  layout.shards_ = shards;
  layout.id_ = id;
  layout.shard_bytes_ = shard_bytes;
  return layout;
}

BlockLayout BlockLayout::flat() const {
  if (empty()) return {};
  BlockLayout layout;
  layout.piece_bytes_ = {block_bytes()};
  layout.shards_ = 1;
  layout.id_ = id_;
  layout.shard_bytes_ = block_bytes();
  return layout;
}

}  // namespace ucm
