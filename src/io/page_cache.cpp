// SPDX-License-Identifier: Apache-2.0
#include "io/page_cache.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/direct.h"
#include "io/faults.h"
#include "ucm/layout.h"

namespace ucm::io {
namespace {

// As <linux/openat2.h> has them, which older systems lack.
struct OpenHow {
  uint64_t flags = 0;
  uint64_t mode = 0;
  uint64_t resolve = 0;
};
constexpr uint64_t kResolveCached = 0x20;
// As <linux/mman.h> has them.
struct CacheRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};
struct CacheCounts {
  uint64_t cached = 0;  // pages
  uint64_t dirty = 0;
  uint64_t under_way = 0;
  uint64_t evicted = 0;
  uint64_t evicted_lately = 0;
};
// The same numbers on all architectures.
constexpr long kOpenat2 = 437;
constexpr long kCachestat = 451;

// Asking first keeps the read from fetching what is missing. Kernels before 6.5 can not tell, and
// none does of a file that this user may not write.
bool known_missing(const File& file, uint64_t offset, size_t bytes) {
  const CacheRange range{offset, bytes};
  CacheCounts counts;
  if (::syscall(kCachestat, file.fd(), &range, &counts, 0U) != 0) return false;
  const auto page = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return counts.cached < (offset + bytes - 1) / page - offset / page + 1;
}

}  // namespace

File File::open_cached(const std::string& path) {
  File file;
  if (faults_set()) return file;
  const OpenHow how{.flags = O_RDONLY | O_CLOEXEC, .resolve = kResolveCached};
  const long fd = ::syscall(kOpenat2, AT_FDCWD, path.c_str(), &how, sizeof how);
  if (fd < 0) return file;
  file.fd_ = static_cast<int>(fd);
  file.path_ = path;
  return file;
}

bool File::pass_cache() {
  const size_t align = direct_alignment(*this);
  if (align == 0 || align > kAlign) return false;
  const int flags = ::fcntl(fd_, F_GETFL);
  if (flags < 0 || ::fcntl(fd_, F_SETFL, flags | O_DIRECT) != 0) return false;
  direct_ = true;
  return true;
}

bool read_cached(const File& file, uint64_t offset, void* buffer, size_t bytes) {
  if (faults_set() || known_missing(file, offset, bytes)) return false;
  char* to = static_cast<char*>(buffer);
  while (bytes > 0) {
    const iovec part{to, bytes};
    const ssize_t got = ::preadv2(file.fd(), &part, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    if (got <= 0) return false;
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
  return true;
}

}  // namespace ucm::io
