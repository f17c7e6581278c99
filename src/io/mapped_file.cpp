// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "io/faults.h"
#include "io/paths.h"
#include "io/recorder.h"
#include "ucm/layout.h"

namespace ucm::io {
namespace {

Result<void*> map(const File& file, uint64_t bytes, int protection) {
  void* data = MAP_FAILED;
  const int error = call_through(Operation::map, file.path(), [&] {
    data = ::mmap(nullptr, bytes, protection, MAP_SHARED, file.fd(), 0);
    return data == MAP_FAILED ? -1 : 0;
  });
  if (error != 0) return errno_status(error, "map %s", file.path().c_str());
  if (recorder::running() && (protection & PROT_WRITE) != 0) {
    recorder::mapped(file.fd(), static_cast<const std::byte*>(data), bytes);
  }
  return data;
}

}  // namespace

MappedFile::~MappedFile() {
  if (!data_) return;
  if (recorder::running()) recorder::unmapped(data_);
  ::munmap(data_, bytes_);
}

Result<MappedFile> MappedFile::open_writable(const std::string& path, uint64_t bytes,
                                             uint64_t reserved, unsigned mode) {
  MappedFile mapped;
  UCM_TRY_ASSIGN(mapped.file_, File::open(path, O_RDWR | O_CREAT, mode));
  UCM_TRY_ASSIGN(const uint64_t size, size_of(mapped.file_));
  if (size < bytes) UCM_TRY(resize(mapped.file_, bytes));
  mapped.bytes_ = std::max(size, bytes);
  // This also fills holes that a damaged file may have.
  UCM_TRY(mapped.reserve(0, reserved));
  UCM_TRY_ASSIGN(void* const data, map(mapped.file_, mapped.bytes_, PROT_READ | PROT_WRITE));
  mapped.data_ = static_cast<std::byte*>(data);
  UCM_TRY_ASSIGN(const PathInfo info, path_info(path));
  mapped.inode_ = info.inode;
  return mapped;
}

Result<MappedFile> MappedFile::open_readable(const std::string& path, uint64_t min_bytes) {
  MappedFile mapped;
  UCM_TRY_ASSIGN(mapped.file_, File::open(path, O_RDONLY));
  UCM_TRY_ASSIGN(mapped.bytes_, size_of(mapped.file_));
  if (mapped.bytes_ < std::max<uint64_t>(min_bytes, 1)) {
    return make_status(Code::corruption, "%s: %llu bytes where at least %llu are expected",
                       path.c_str(), static_cast<unsigned long long>(mapped.bytes_),
                       static_cast<unsigned long long>(min_bytes));
  }
  UCM_TRY_ASSIGN(void* const data, map(mapped.file_, mapped.bytes_, PROT_READ));
  mapped.data_ = static_cast<std::byte*>(data);
  UCM_TRY_ASSIGN(const PathInfo info, path_info(path));
  mapped.inode_ = info.inode;
  return mapped;
}

Status MappedFile::reserve(uint64_t offset, uint64_t bytes) const {
  return bytes == 0 ? Status() : allocate(file_, offset, bytes);
}

std::vector<std::pair<uint64_t, uint64_t>> MappedFile::data_ranges() const {
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  off_t at = 0;
  while (static_cast<uint64_t>(at) < bytes_) {
    const off_t first = ::lseek(file_.fd(), at, SEEK_DATA);
    if (first < 0 && errno == ENXIO) break;
    off_t end = first < 0 ? -1 : ::lseek(file_.fd(), first, SEEK_HOLE);
    // A file system that can not tell: everything may be data.
    if (end < 0) return {{0, bytes_}};
    end = std::min(end, static_cast<off_t>(bytes_));
    if (first >= end) break;
    ranges.emplace_back(first, end);
#ifdef MADV_POPULATE_READ
    // One pass now saves a fault per page later; older kernels refuse, which only costs time.
    const uint64_t page = static_cast<uint64_t>(first) / kAlign * kAlign;
    ::madvise(data_ + page, align_up(static_cast<uint64_t>(end)) - page, MADV_POPULATE_READ);
#endif
    at = end;
  }
  return ranges;
}

Status MappedFile::sync(uint64_t offset, uint64_t bytes) const {
  const uint64_t first = offset / kAlign * kAlign;
  const uint64_t last = std::min(bytes_, align_up(offset + bytes));
  const bool recorded = recorder::running();
  const uint64_t before = recorded ? recorder::sync_begins() : 0;
  const int error = call_through(Operation::sync, file_.path(),
                                 [&] { return ::msync(data_ + first, last - first, MS_SYNC); });
  if (error != 0) return errno_status(error, "msync %s", file_.path().c_str());
  if (recorded) recorder::synced(file_.fd(), before, first, last - first);
  return {};
}

}  // namespace ucm::io
