// SPDX-License-Identifier: Apache-2.0
#include "io/direct.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <mutex>
#include <set>

#include "io/faults.h"
#include "ucm/layout.h"
#include "ucm/log.h"

namespace ucm::io {
namespace {

// One line per file system, however many files are opened on it.
void warn_buffered(const std::string& path, const char* why) {
  struct statfs info;
  long type = 0;
  const int error =
      call_through(Operation::stat, path, [&] { return ::statfs(path.c_str(), &info); });
  if (error == 0) type = static_cast<long>(info.f_type);
  static std::mutex mutex;
  static std::set<long>* const kWarned = new std::set<long>;
  {
    const std::lock_guard lock(mutex);
    if (!kWarned->insert(type).second) return;
  }
  log(LogLevel::warning, "io: %s: %s; using buffered transfers instead of O_DIRECT", path.c_str(),
      why);
}

}  // namespace

size_t direct_alignment(const File& file) {
#ifdef STATX_DIOALIGN
  struct statx info;
  if (::statx(file.fd(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) == 0 &&
      (info.stx_mask & STATX_DIOALIGN) != 0) {
    return std::max<size_t>(info.stx_dio_mem_align, info.stx_dio_offset_align);
  }
#endif
  // Kernels before 6.1 and some file systems do not tell; kAlign is right for all known disks.
  return kAlign;
}

Result<File> open_direct(const std::string& path, int flags, unsigned mode, bool want_direct) {
  if (!want_direct) return File::open(path, flags, mode);
  auto opened = File::open(path, flags | O_DIRECT, mode);
  if (opened.ok()) {
    const size_t align = direct_alignment(opened.value());
    if (align != 0 && align <= kAlign) return opened;
    warn_buffered(path, align == 0 ? "the file system refuses direct transfers"
                                   : "direct transfers need a larger alignment than 4096 bytes");
    return File::open(path, flags & ~(O_EXCL | O_TRUNC), mode);
  }
  auto buffered = File::open(path, flags, mode);
  if (buffered.ok()) warn_buffered(path, "open with O_DIRECT failed");
  return buffered;
}

void drop_cache(const File& file, uint64_t offset, uint64_t bytes) {
  ::posix_fadvise(file.fd(), static_cast<off_t>(offset), static_cast<off_t>(bytes),
                  POSIX_FADV_DONTNEED);
}

}  // namespace ucm::io
