// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <shared_mutex>
#include <span>
#include <vector>

#include "ucm/device.h"

namespace ucm::cuda_like {

// A piece of host memory that was registered in one call, and where the device sees it.
struct PinnedChunk {
  uintptr_t host = 0;
  size_t bytes = 0;
  uintptr_t device = 0;  // 0: not mapped
};

// The registered host memory of one device. Drivers refuse copies that leave the chunk they begin
// in, so copies are cut where chunks meet. Thread-safe.
class PinnedRanges {
 public:
  // Chunks that follow each other, registered together.
  void add(const std::vector<PinnedChunk>& chunks);
  // Forgets and answers the chunks that were added with the one at `host`; nothing when none were.
  std::vector<PinnedChunk> take(uintptr_t host);
  // Copies cut at chunk ends, appended to `out`. `host_side` is src for a load, dst for a dump.
  void cut(std::span<const CopyPiece> pieces, Direction direction,
           std::vector<CopyPiece>* out) const;
  // Whether one chunk holds all of it.
  bool in_one_chunk(uintptr_t host, size_t bytes) const;
  // The device's address of a host address; 0 where memory is not registered and mapped.
  uintptr_t device_address(uintptr_t host) const;

 private:
  // The chunk that holds the address, or null. Requires mutex_.
  const PinnedChunk* find(uintptr_t host) const;

  mutable std::shared_mutex mutex_;
  std::map<uintptr_t, PinnedChunk> chunks_;
  std::map<uintptr_t, size_t> counts_;  // chunks of the registration that begins at the address
};

}  // namespace ucm::cuda_like
