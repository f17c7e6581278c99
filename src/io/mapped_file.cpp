// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "io/faults.h"
#include "io/files.h"
#include "io/paths.h"
#include "ucm/layout.h"

namespace ucm::io {
namespace {

Result<void*> map(const File& file, uint64_t bytes, int protection) {
  const FaultEffect effect = fault(Operation::map, file.path());
  void* data = MAP_FAILED;
  if (effect.error != 0) {
    errno = effect.error;
  } else {
    // Populating costs one pass now and saves a fault per 4 KiB during the first scan.
    data = ::mmap(nullptr, bytes, protection, MAP_SHARED | MAP_POPULATE, file.fd(), 0);
  }
  if (data == MAP_FAILED) return errno_status(errno, "map %s", file.path().c_str());
  return data;
}

}  // namespace

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, bytes_);
}

Result<MappedFile> MappedFile::open_writable(const std::string& path, uint64_t bytes,
                                             unsigned mode) {
  UCM_TRY_ASSIGN(const File file, File::open(path, O_RDWR | O_CREAT, mode));
  UCM_TRY_ASSIGN(uint64_t size, size_of(file));
  // Allocating the whole range also fills holes a damaged or sparse file may have.
  UCM_TRY(allocate(file, 0, std::max(size, bytes)));
  size = std::max(size, bytes);
  UCM_TRY_ASSIGN(void* const data, map(file, size, PROT_READ | PROT_WRITE));
  MappedFile mapped;
  mapped.data_ = static_cast<std::byte*>(data);
  mapped.bytes_ = size;
  UCM_TRY_ASSIGN(const PathInfo info, path_info(path));
  mapped.inode_ = info.inode;
  return mapped;
}

Result<MappedFile> MappedFile::open_readable(const std::string& path, uint64_t min_bytes) {
  UCM_TRY_ASSIGN(const File file, File::open(path, O_RDONLY));
  UCM_TRY_ASSIGN(const uint64_t size, size_of(file));
  if (size < std::max<uint64_t>(min_bytes, 1)) {
    return make_status(Code::corruption, "%s: %llu bytes where at least %llu are expected",
                       path.c_str(), static_cast<unsigned long long>(size),
                       static_cast<unsigned long long>(min_bytes));
  }
  UCM_TRY_ASSIGN(void* const data, map(file, size, PROT_READ));
  MappedFile mapped;
  mapped.data_ = static_cast<std::byte*>(data);
  mapped.bytes_ = size;
  UCM_TRY_ASSIGN(const PathInfo info, path_info(path));
  mapped.inode_ = info.inode;
  return mapped;
}

Status MappedFile::sync(uint64_t offset, uint64_t bytes) const {
  const uint64_t first = offset / kAlign * kAlign;
  const uint64_t last = std::min(bytes_, align_up(offset + bytes));
  if (::msync(data_ + first, last - first, MS_SYNC) == 0) return {};
  return errno_status(errno, "sync a mapped file");
}

}  // namespace ucm::io
