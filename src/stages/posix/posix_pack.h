// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/checksum.h"
#include "io/aligned_buffer.h"
#include "io/files.h"
#include "stages/posix/posix_trailer.h"
#include "ucm/key.h"
#include "ucm/layout.h"
#include "ucm/status.h"

namespace ucm::posix {

// Small blocks that were dumped together share a file: their padded payloads one behind the other,
// then one page that says which is whose. Every block has its own name (a hard link) for it, so
// that lookup, removal and collection stay what they are for a block in a file of its own.
// The bytes are specified in docs/formats-posix.md.
inline constexpr size_t kMaxPackBlocks = 120;

struct PackedBlock {
  BlockKey key;
  Digest digest;
};

struct PackPage {
  uint64_t layout_id = 0;
  uint64_t payload_bytes = 0;
  int64_t written_ns = 0;
  std::vector<PackedBlock> blocks;

  uint64_t file_bytes() const { return blocks.size() * align_up(payload_bytes) + kTrailerBytes; }
};

// Whether a file of this size can hold 2 or more blocks of a layout.
bool is_pack_size(uint64_t bytes, const BlockLayout& layout);
// Whether a last page says that it is one of a pack; it may be damaged all the same.
bool is_pack_page(const std::byte* page);
void encode_pack(const PackPage& pack, std::byte* page);
// Null when the page is sound, else the cause in one word, as for a trailer.
const char* decode_pack(const std::byte* page, PackPage* pack);

// A pack on its way to a file: payloads stay in their owners' memory, what follows the last whole
// page of each is copied into a page of ours, padded with zeros.
class PackImage {
 public:
  // With room for `most` blocks; out_of_memory without memory for their ends.
  static Result<PackImage> make(const BlockLayout& layout, int64_t written_ns, size_t most);
  // Reads the end of the payload, so the payload must stay as it is meanwhile.
  void add(const BlockKey& key, const Digest& digest, const std::byte* payload);
  // After the last block, once.
  void seal();
  Status write(const io::File& file) const;

  const std::vector<PackedBlock>& blocks() const { return pack_.blocks; }
  uint64_t bytes() const { return pack_.file_bytes(); }

 private:
  PackPage pack_;
  io::AlignedBuffer ends_;  // last pages of the payloads, then the page of the pack
  std::byte* next_end_ = nullptr;
  std::vector<iovec> parts_;
};

}  // namespace ucm::posix
