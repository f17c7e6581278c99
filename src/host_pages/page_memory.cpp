// SPDX-License-Identifier: Apache-2.0
#include "host_pages/page_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "ucm/layout.h"
#include "ucm/log.h"

namespace ucm::host_pages {
namespace {

constexpr char kName[] = "ucm-host-pages";

// Pages of a memory file: the size of a huge page where it lies on reserved ones.
size_t file_page_bytes(int descriptor) {
  struct statfs system = {};
  return ::fstatfs(descriptor, &system) == 0 ? static_cast<size_t>(system.f_bsize) : kAlign;
}

constexpr unsigned long kNodeBits = 1024;  // more than any kernel has

// Plain shared memory keeps its placement with the file; reserved huge pages only know that of the
// mapping through which they are first touched. So every mapping is spread.
void spread_over_nodes(std::byte* data, size_t bytes) {
  constexpr int kInterleave = 3;         // MPOL_INTERLEAVE
  constexpr unsigned long kAllowed = 4;  // MPOL_F_MEMS_ALLOWED
  // A kernel refuses nodes that it can not have, so it is asked for those it has.
  unsigned long nodes[kNodeBits / 64] = {};
  const bool spread =
      ::syscall(SYS_get_mempolicy, nullptr, nodes, kNodeBits, nullptr, kAllowed) == 0 &&
      ::syscall(SYS_mbind, data, bytes, kInterleave, nodes, kNodeBits, 0ul) == 0;
  if (!spread) {
    log(LogLevel::warning, "host pages: not spread over the NUMA nodes: %s", std::strerror(errno));
  }
}

}  // namespace

Result<std::unique_ptr<PageMemory>> PageMemory::make(size_t bytes,
                                                     const HostPagesOptions& options) {
  std::unique_ptr<PageMemory> memory(new PageMemory);
  Status status = options.huge_pages ? memory->create(bytes, /*reserved_pages=*/true)
                                     : make_status(Code::unsupported, "not asked for");
  if (!status.ok()) UCM_TRY(memory->create(bytes, /*reserved_pages=*/false));
  UCM_TRY(memory->equip(options));
  return memory;
}

Result<std::unique_ptr<PageMemory>> PageMemory::reach(int pid, int descriptor, size_t bytes,
                                                      const HostPagesOptions& options) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(descriptor);
  // The number may name anything by now: look before opening it.
  char target[64] = {};
  const std::string wanted = std::string("/memfd:") + kName;
  if (::readlink(path.c_str(), target, sizeof(target) - 1) < 0 ||
      std::strncmp(target, wanted.c_str(), wanted.size()) != 0) {
    return make_status(Code::not_found, "host pages: process %d is gone", pid);
  }
  std::unique_ptr<PageMemory> memory(new PageMemory);
  memory->file_ = memory::Descriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!memory->file_) return errno_status(errno, "host pages: open %s", path.c_str());
  struct stat found = {};
  if (::fstat(memory->descriptor(), &found) != 0 || static_cast<size_t>(found.st_size) < bytes) {
    return make_status(Code::not_found, "host pages: %s is something else", path.c_str());
  }
  UCM_TRY(memory->map(static_cast<size_t>(found.st_size)));
  UCM_TRY(memory->equip(options));
  return memory;
}

PageMemory::~PageMemory() {
  region_.reset();
  if (data_) ::munmap(data_, bytes_);
}

Status PageMemory::create(size_t bytes, bool reserved_pages) {
  file_ =
      memory::Descriptor(::memfd_create(kName, MFD_CLOEXEC | (reserved_pages ? MFD_HUGETLB : 0u)));
  if (!file_) return errno_status(errno, "host pages: make shared memory");
  const size_t rounded = align_up(bytes, file_page_bytes(descriptor()));
  if (::ftruncate(descriptor(), static_cast<off_t>(rounded)) != 0) {
    return errno_status(errno, "host pages: %zu bytes of shared memory", rounded);
  }
  return map(rounded);
}

Status PageMemory::map(size_t bytes) {
  // Without MAP_NORESERVE: too few reserved huge pages are an error here, not a SIGBUS later.
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor(), 0);
  if (mapped == MAP_FAILED) {
    return errno_status(errno, "host pages: map %zu bytes of shared memory", bytes);
  }
  data_ = static_cast<std::byte*>(mapped);
  bytes_ = bytes;
  return {};
}

Status PageMemory::equip(const HostPagesOptions& options) {
  memory::RegionOptions wanted;
  wanted.bytes = bytes_;
  wanted.huge_pages = options.huge_pages;
  wanted.device = options.device;
  // Of several devices none draws to itself what is spread for all of them.
  wanted.place = !options.numa_interleave;
  spread_ = options.numa_interleave;
  if (spread_) spread_over_nodes(data_, bytes_);
  UCM_TRY_ASSIGN(region_, memory::Region::over(data_, wanted));
  page_bytes_ = std::max(file_page_bytes(descriptor()), region_->page_bytes());
  return {};
}

}  // namespace ucm::host_pages
