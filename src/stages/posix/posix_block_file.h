// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "io/aligned_buffer.h"
#include "io/files.h"
#include "io/paths.h"
#include "stages/posix/posix_pack.h"
#include "stages/posix/posix_trailer.h"
#include "ucm/layout.h"
#include "ucm/status.h"

namespace ucm::posix {

enum class Finding : uint8_t {
  sound,
  absent,
  other_layout,  // a sound block, written for another layout
  damaged,
};

// What a look at a block file found. I/O errors are a Status instead: they say nothing about it.
struct BlockReport {
  Finding finding = Finding::absent;
  const char* cause = "absent";  // one word for metrics and messages
  Trailer trailer;               // when sound
  io::File file;                 // open unless absent
  io::PathInfo info;
  uint64_t payload_offset = 0;           // other than 0 only in a pack
  std::shared_ptr<const PackPage> pack;  // of a sound file that blocks share
};

// Reads payload and trailer into `buffer` (kAlign-aligned, file_bytes of the layout's block) in one
// go and checks everything but, unless `check_payload`, the digest of the payload. `skip_cache`,
// when it is not null, is asked about a block that the page cache does not have: true reads past
// it.
Result<BlockReport> read_block_file(const std::string& path, const BlockKey& key,
                                    const BlockLayout& layout, bool direct, bool check_payload,
                                    std::byte* buffer,
                                    const std::function<bool()>* skip_cache = nullptr);

// A block that the kernel has in memory, straight into `payload` (the layout's slot), without
// waiting for the storage. False when it has not, or when anything is wrong with it: then `payload`
// may have changed. Everything is checked but the payload itself (`judge_payload`).
bool read_cached_block(const std::string& path, const BlockKey& key, const BlockLayout& layout,
                       std::byte* payload, BlockReport* report);

// Whether a padded payload is what it was when it was dumped; null, or the cause in one word.
const char* judge_payload(const std::byte* payload, uint64_t payload_bytes, const Digest* digest);

// Checks size and trailer only. An empty layout accepts any block that is sound in itself.
Result<BlockReport> examine_block_file(const std::string& path, const BlockKey& key,
                                       const BlockLayout& layout);

// A block ready to be written: the payload in place, and a page or two of our own that hold the
// payload's last partial page, zeros up to 4 KiB and the trailer.
class BlockImage {
 public:
  // Takes the digest of the payload unless `known` gives it. out_of_memory without memory for the
  // tail.
  static Result<BlockImage> make(const BlockKey& key, const BlockLayout& layout,
                                 const std::byte* payload, const Digest* known, int64_t written_ns);

  Status write(const io::File& file) const;
  uint64_t bytes() const { return head_bytes_ + tail_.bytes(); }

 private:
  const std::byte* payload_ = nullptr;
  size_t head_bytes_ = 0;  // whole pages written straight from the payload
  io::AlignedBuffer tail_;
};

}  // namespace ucm::posix
