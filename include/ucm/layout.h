// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ucm/status.h"

namespace ucm {

// Every slot, file and direct transfer of ucm is a multiple of this many bytes.
inline constexpr size_t kAlign = 4096;

inline constexpr size_t align_up(size_t bytes, size_t align = kAlign) {
  return (bytes + align - 1) / align * align;
}

// How the bytes of one block are cut: pieces (tensor slices) -> shard (a layer or a layer group)
// -> block. Every shard of a block has the same pieces. Checked once, in `make`; immutable after.
class BlockLayout {
 public:
  // No layout: a store opened with it only answers lookups and removals.
  BlockLayout() = default;
  // `piece_bytes`: sizes of the pieces of one shard, each > 0. `shards` > 0. `id` fences content of
  // different meaning (dtype, model, axis order) and is stored with each block; 0 accepts any.
  UCM_API static Result<BlockLayout> make(std::vector<size_t> piece_bytes, uint32_t shards,
                                          uint64_t id);
  // One shard of one piece with the same block bytes and id: what stages below `Cache` see.
  UCM_API BlockLayout flat() const;

  bool empty() const { return shards_ == 0; }
  const std::vector<size_t>& piece_bytes() const { return piece_bytes_; }
  size_t pieces() const { return piece_bytes_.size(); }
  uint32_t shards() const { return shards_; }
  uint64_t id() const { return id_; }
  size_t shard_bytes() const { return shard_bytes_; }
  size_t block_bytes() const { return shard_bytes_ * shards_; }
  // Bytes of a slot or file extent that holds one block: `block_bytes` rounded up to kAlign.
  size_t slot_bytes() const { return align_up(block_bytes()); }

 private:
  std::vector<size_t> piece_bytes_;
  uint32_t shards_ = 0;
  uint64_t id_ = 0;
  size_t shard_bytes_ = 0;
};

}  // namespace ucm
