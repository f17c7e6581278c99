// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "io/files.h"
#include "ucm/status.h"

namespace ucm::io {

// A file mapped as shared memory. Move-only; the memory stays valid until destruction. Only bytes
// whose space is reserved may be written: a full disk would otherwise end the process.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(inode_, other.inode_);
    std::swap(file_, other.file_);
    return *this;
  }
  ~MappedFile();

  // Maps for writing; a missing or shorter file is made or extended (with zeros) to `bytes`, of
  // which the first `reserved` get their space on the disk.
  static Result<MappedFile> open_writable(const std::string& path, uint64_t bytes,
                                          uint64_t reserved, unsigned mode);
  // Maps the whole file as it is; corruption when it is shorter than `min_bytes`.
  static Result<MappedFile> open_readable(const std::string& path, uint64_t min_bytes);

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t inode() const { return inode_; }
  // Gets space on the disk for a range within the file.
  Status reserve(uint64_t offset, uint64_t bytes) const;
  // The ranges (first, end) that may hold other bytes than zero; brought into memory.
  std::vector<std::pair<uint64_t, uint64_t>> data_ranges() const;
  // Writes the pages of a range to the disk and waits for it.
  Status sync(uint64_t offset, uint64_t bytes) const;

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  uint64_t inode_ = 0;
  File file_;
};

}  // namespace ucm::io
