// SPDX-License-Identifier: Apache-2.0
#include "pinned_ranges.h"

#include <algorithm>
#include <mutex>

namespace ucm::cuda_like {

void PinnedRanges::add(const std::vector<PinnedChunk>& chunks) {
  if (chunks.empty()) return;
  const std::unique_lock lock(mutex_);
  counts_[chunks.front().host] = chunks.size();
  for (const PinnedChunk& chunk : chunks) chunks_[chunk.host] = chunk;
}

std::vector<PinnedChunk> PinnedRanges::take(uintptr_t host) {
  const std::unique_lock lock(mutex_);
  std::vector<PinnedChunk> taken;
  const auto count = counts_.find(host);
  if (count == counts_.end()) return taken;
  auto at = chunks_.find(host);
  for (size_t i = 0; i < count->second; ++i) {
    taken.push_back(at->second);
    at = chunks_.erase(at);
  }
  counts_.erase(count);
  return taken;
}

void PinnedRanges::cut(std::span<const CopyPiece> pieces, Direction direction,
                       std::vector<CopyPiece>* out) const {
  const std::shared_lock lock(mutex_);
  for (CopyPiece rest : pieces) {
    while (rest.bytes != 0) {
      const void* host_side = direction == Direction::load ? rest.src : rest.dst;
      const auto host = reinterpret_cast<uintptr_t>(host_side);
      const PinnedChunk* chunk = find(host);
      const size_t here =
          chunk ? std::min(rest.bytes, chunk->host + chunk->bytes - host) : rest.bytes;
      out->push_back({rest.dst, rest.src, here});
      rest.dst = static_cast<std::byte*>(rest.dst) + here;
      rest.src = static_cast<const std::byte*>(rest.src) + here;
      rest.bytes -= here;
    }
  }
}

bool PinnedRanges::in_one_chunk(uintptr_t host, size_t bytes) const {
  const std::shared_lock lock(mutex_);
  const PinnedChunk* chunk = find(host);
  return chunk && host + bytes <= chunk->host + chunk->bytes;
}

uintptr_t PinnedRanges::device_address(uintptr_t host) const {
  const std::shared_lock lock(mutex_);
  const PinnedChunk* chunk = find(host);
  return chunk && chunk->device != 0 ? chunk->device + (host - chunk->host) : 0;
}

const PinnedChunk* PinnedRanges::find(uintptr_t host) const {
  auto after = chunks_.upper_bound(host);
  if (after == chunks_.begin()) return nullptr;
  const PinnedChunk& chunk = std::prev(after)->second;
  return host < chunk.host + chunk.bytes ? &chunk : nullptr;
}

}  // namespace ucm::cuda_like
