// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "ucm/status.h"

// Open files. Every file system call of ucm goes through this room, so that a fault layer can sit
// below all stages (faults.h). Statuses name the operation, the path and the errno.
namespace ucm::io {

// An open file descriptor and its path. Move-only; closes itself. Reading and writing at offsets
// is thread-safe.
class File {
 public:
  File() = default;
  File(File&& other) noexcept { *this = std::move(other); }
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(direct_, other.direct_);
    std::swap(path_, other.path_);
    return *this;
  }
  ~File() { close(); }

  // Flags as for open(2); O_CLOEXEC is added. `mode` counts when O_CREAT makes the file.
  static Result<File> open(std::string path, int flags, unsigned mode = 0600);
  // page_cache.h
  static File open_cached(const std::string& path);
  bool pass_cache();
  void close();

  explicit operator bool() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  // Opened with O_DIRECT: buffers, offsets and lengths must be multiples of kAlign.
  bool direct() const { return direct_; }
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  bool direct_ = false;
  std::string path_;
};

using SharedFile = std::shared_ptr<const File>;

// Reads until `bytes` or the end of the file; answers how many bytes came.
Result<size_t> read_at(const File& file, uint64_t offset, void* buffer, size_t bytes);
Result<size_t> read_at(const File& file, uint64_t offset, std::span<const iovec> parts);
// Writes everything or fails.
Status write_at(const File& file, uint64_t offset, const void* buffer, size_t bytes);
Status write_at(const File& file, uint64_t offset, std::span<const iovec> parts);

// Reserves space for [offset, offset + bytes) and extends the file. Where the file system can not
// reserve, the file is only extended. On failure the file has its old length again.
Status allocate(const File& file, uint64_t offset, uint64_t bytes);
Status resize(const File& file, uint64_t bytes);
Status sync_data(const File& file);
Status sync_all(const File& file);
Result<uint64_t> size_of(const File& file);

}  // namespace ucm::io
