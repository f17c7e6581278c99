// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/checksum.h"
#include "ucm/key.h"
#include "ucm/layout.h"

namespace ucm::posix {

// The last 4 KiB of every block file, specified in docs/formats-posix.md.
inline constexpr size_t kTrailerBytes = kAlign;
inline constexpr uint32_t kTrailerFormat = 1;
inline constexpr uint64_t kPayloadSeed = 0;

struct Trailer {
  BlockKey key;
  uint64_t layout_id = 0;
  uint64_t payload_bytes = 0;
  uint32_t rank = 0;
  uint32_t ranks = 1;
  base::Digest digest;     // XXH3-128 of the payload with kPayloadSeed
  int64_t written_ns = 0;  // Unix time
};

// Bytes of the file that holds `payload_bytes`: the padded payload and the trailer.
inline constexpr uint64_t file_bytes(uint64_t payload_bytes) {
  return align_up(payload_bytes) + kTrailerBytes;
}

// Fills the whole page of kTrailerBytes.
void encode_trailer(const Trailer& trailer, std::byte* page);

// Null when the page is a sound trailer, else the cause in one word: "magic", "version",
// "trailer". `trailer` is untouched unless the answer is null.
const char* decode_trailer(const std::byte* page, Trailer* trailer);

}  // namespace ucm::posix
