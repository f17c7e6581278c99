// SPDX-License-Identifier: Apache-2.0
#include "io/ring_tables.h"

#ifdef UCM_HAVE_URING

#include <algorithm>

#include "ucm/layout.h"
#include "ucm/log.h"

namespace ucm::io {
namespace {

constexpr unsigned kMaxPieces = 1024;
constexpr unsigned kMaxFiles = 256;
// Small enough that a pool which is hardly used stays hardly touched, large enough that a few
// numbers cover it.
constexpr size_t kPieceBytes = size_t{16} << 20;
constexpr size_t kLongestPiece = size_t{1} << 30;  // what the kernel takes

// Pieces are whole numbers of units, so that no unit lies in two of them.
size_t piece_bytes(const base::LastingMemory& memory) {
  const size_t fair = std::max(kPieceBytes, memory.bytes / (kMaxPieces / 2));
  return std::min(align_up(fair, memory.unit_bytes),
                  std::max<size_t>(kLongestPiece / memory.unit_bytes, 1) * memory.unit_bytes);
}

}  // namespace

void RingTables::open(io_uring* ring, bool wanted) {
  ring_ = ring;
  if (!wanted) return;
  buffers_on_ = io_uring_register_buffers_sparse(ring, kMaxPieces) == 0;
  files_on_ = io_uring_register_files_sparse(ring, kMaxFiles) == 0;
}

int RingTables::buffer(const void* data, size_t bytes) {
  if (!buffers_on_) return -1;
  if (base::memory_changes() != seen_changes_) drop_withdrawn();
  if (!last_.holds(data, bytes)) last_ = base::find_memory(data, bytes);
  if (last_.id == 0) return -1;
  const size_t piece = piece_bytes(last_);
  const auto offset = static_cast<size_t>(static_cast<const std::byte*>(data) - last_.data);
  const size_t number = offset / piece;
  const size_t end = std::min((number + 1) * piece, last_.bytes);
  if (offset + bytes > end) return -1;
  const uint64_t name = (last_.id << 24) | number;
  const auto known = piece_numbers_.find(name);
  if (known != piece_numbers_.end()) return known->second;
  return add_piece(name, last_.data + number * piece, end - number * piece);
}

int RingTables::add_piece(uint64_t name, const std::byte* data, size_t bytes) {
  if (bytes > kLongestPiece) return refuse_piece(name);
  int number = static_cast<int>(pieces_.size());
  if (!free_pieces_.empty()) {
    number = free_pieces_.back();
  } else if (pieces_.size() >= kMaxPieces) {
    return refuse_piece(name);
  }
  const iovec range = {const_cast<std::byte*>(data), bytes};
  const __u64 tag = 0;
  const int taken =
      io_uring_register_buffers_update_tag(ring_, static_cast<unsigned>(number), &range, &tag, 1);
  if (taken != 1) {
    log(LogLevel::debug, "io: %zu bytes of a pool are not registered with the ring (error %d)",
        bytes, -taken);
    return refuse_piece(name);
  }
  if (!free_pieces_.empty()) {
    free_pieces_.pop_back();
  } else {
    pieces_.emplace_back();
  }
  pieces_[static_cast<size_t>(number)] = {last_.id, bytes};
  registered_bytes_ += bytes;
  piece_numbers_.emplace(name, number);
  return number;
}

// Asked once: the limit that stands in the way will stand there at the next transfer, too.
int RingTables::refuse_piece(uint64_t name) {
  piece_numbers_.emplace(name, -1);
  return -1;
}

// Registered pages stay in memory after they were unmapped, so they are given back.
void RingTables::drop_withdrawn() {
  seen_changes_ = base::memory_changes();
  last_ = {};
  for (auto it = piece_numbers_.begin(); it != piece_numbers_.end();) {
    if (base::memory_announced(it->first >> 24)) {
      ++it;
      continue;
    }
    if (it->second >= 0) {
      const iovec nothing = {nullptr, 0};
      const __u64 tag = 0;
      io_uring_register_buffers_update_tag(ring_, static_cast<unsigned>(it->second), &nothing, &tag,
                                           1);
      registered_bytes_ -= pieces_[static_cast<size_t>(it->second)].bytes;
      free_pieces_.push_back(it->second);
    }
    it = piece_numbers_.erase(it);
  }
}

int RingTables::file(const SharedFile& file) {
  if (!files_on_) return -1;
  const auto known = file_numbers_.find(file.get());
  if (known != file_numbers_.end()) {
    const auto number = static_cast<size_t>(known->second);
    if (files_[number].lock() == file) return known->second;
    // Another file object at the address of one that is gone.
    int fd = file->fd();
    if (io_uring_register_files_update(ring_, static_cast<unsigned>(number), &fd, 1) != 1)
      return -1;
    files_[number] = file;
    return known->second;
  }
  if (files_.size() >= kMaxFiles) return -1;
  int fd = file->fd();
  const auto number = static_cast<unsigned>(files_.size());
  if (io_uring_register_files_update(ring_, number, &fd, 1) != 1) {
    files_on_ = false;
    return -1;
  }
  files_.push_back(file);
  file_numbers_.emplace(file.get(), static_cast<int>(number));
  return static_cast<int>(number);
}

}  // namespace ucm::io

#endif
