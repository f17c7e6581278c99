// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "io/files.h"
#include "pages/store_format.h"
#include "ucm/status.h"

namespace ucm::pages {

// Where the bytes of a slot are.
struct Place {
  io::SharedFile file;
  uint64_t offset = 0;
};

// The segment files of a page store: opened when first needed, extended while the store grows.
// Thread-safe.
class Segments {
 public:
  Segments(std::string path, const StoreFormat& format, bool direct, bool writable, unsigned mode);

  // Looks at the files that are there; for a writer also removes what lies behind the capacity.
  Status scan();
  // How many slots are reserved in each segment.
  std::vector<uint64_t> slots_there() const;
  Result<Place> locate(uint32_t slot);

  // Reserves the next slots (at most `most`), in order; no_space when the disk has no room for one.
  struct Range {
    uint32_t first = 0;
    uint32_t count = 0;
  };
  Result<Range> grow(uint64_t most);
  // Writes the data of these slots' files to the disk.
  Status sync(const std::set<uint64_t>& segments);
  uint64_t segment_of(uint32_t slot) const { return slot / format_.segment_slots; }
  std::string file_name(uint32_t slot) const;
  // Whether the files opened so far go past the page cache.
  bool direct() const;
  // Lets go of the page cache where direct transfers were wanted but refused.
  void forget_cached(const Place& place, uint64_t bytes) const;

 private:
  Result<io::SharedFile> open_segment(uint64_t segment);
  uint64_t full_slots(uint64_t segment) const;

  const std::string path_;
  const StoreFormat format_;
  const bool direct_;
  const bool writable_;
  const unsigned mode_;
  mutable std::mutex mutex_;
  std::vector<io::SharedFile> files_;
  std::vector<uint64_t> there_;  // slots reserved in each segment
};

}  // namespace ucm::pages
