// SPDX-License-Identifier: Apache-2.0
#pragma once

#ifdef UCM_HAVE_URING

#include <liburing.h>

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/lasting_memory.h"
#include "io/files.h"

namespace ucm::io {

// The buffers and files a ring has registered with the kernel, so that it need not look them up
// and pin them for every transfer. Lasting memory is registered piece by piece, when a transfer
// first touches the piece; where the kernel refuses (locked memory limit, old kernel) transfers
// go on unregistered. Used by the thread of the ring only.
class RingTables {
 public:
  // After the ring was set up. Without `wanted` nothing is ever registered.
  void open(io_uring* ring, bool wanted);
  // The number of the registered buffer that holds the range, or -1.
  int buffer(const void* data, size_t bytes);
  // The number of the registered file, or -1.
  int file(const SharedFile& file);
  size_t registered_bytes() const { return registered_bytes_; }

 private:
  struct Piece {
    uint64_t memory_id = 0;
    size_t bytes = 0;
  };
  int add_piece(uint64_t name, const std::byte* data, size_t bytes);
  int refuse_piece(uint64_t name);
  void drop_withdrawn();

  io_uring* ring_ = nullptr;
  bool buffers_on_ = false;
  bool files_on_ = false;
  size_t registered_bytes_ = 0;
  uint64_t seen_changes_ = 0;
  base::LastingMemory last_;  // most transfers touch one pool
  std::unordered_map<uint64_t, int> piece_numbers_;
  std::vector<Piece> pieces_;
  std::vector<int> free_pieces_;
  std::vector<std::weak_ptr<const File>> files_;
  std::unordered_map<const File*, int> file_numbers_;
};

}  // namespace ucm::io

#endif
