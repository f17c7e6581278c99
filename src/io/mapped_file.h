// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "ucm/status.h"

namespace ucm::io {

// A file mapped as shared memory. Move-only; the memory stays valid until destruction. Space is
// reserved when the file is made or extended, so that writing can not hit a full disk later.
class MappedFile {
 public:
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    std::swap(inode_, other.inode_);
    return *this;
  }
  ~MappedFile();

  // Maps for writing; a missing or shorter file is made or extended (with zeros) to `bytes`.
  static Result<MappedFile> open_writable(const std::string& path, uint64_t bytes, unsigned mode);
  // Maps the whole file as it is; corruption when it is shorter than `min_bytes`.
  static Result<MappedFile> open_readable(const std::string& path, uint64_t min_bytes);

  explicit operator bool() const { return data_ != nullptr; }
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  uint64_t inode() const { return inode_; }
  // Writes the pages of a range to the disk and waits for it.
  Status sync(uint64_t offset, uint64_t bytes) const;

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  uint64_t inode_ = 0;
};

}  // namespace ucm::io
