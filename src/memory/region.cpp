// SPDX-License-Identifier: Apache-2.0
#include "memory/region.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

#include "base/worker_group.h"
#include "ucm/layout.h"
#include "ucm/log.h"

namespace ucm::memory {
namespace {

// Small, so that other threads' mappings never wait long for a populate call.
constexpr size_t kPrefaultChunk = size_t{8} << 20;
constexpr unsigned kPrefaultThreads = 8;
constexpr size_t kDefaultHugePage = size_t{2} << 20;

size_t read_number(const char* path, size_t otherwise) {
  std::ifstream file(path);
  size_t number = 0;
  return file >> number ? number : otherwise;
}

// The transparent huge page size differs by base page size (512 MiB on 64 KiB-page arm64).
size_t huge_page_bytes() {
  return read_number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", kDefaultHugePage);
}

unsigned prefault_threads(size_t chunks) {
  const unsigned processors = std::max(1u, std::thread::hardware_concurrency());
  return static_cast<unsigned>(std::min<size_t>({kPrefaultThreads, chunks, processors}));
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  return text;
}

bool transparent_huge_pages_on() {
  const std::string text = first_line("/sys/kernel/mm/transparent_hugepage/enabled");
  return text.find("[never]") == std::string::npos && !text.empty();
}

// Shared memory has a switch of its own, and most distributions leave it off.
bool shared_huge_pages_on() {
  const std::string text = first_line("/sys/kernel/mm/transparent_hugepage/shmem_enabled");
  for (const char* word : {"[never]", "[deny]"}) {
    if (text.find(word) != std::string::npos) return false;
  }
  return !text.empty();
}

size_t available_bytes() {
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    size_t kib = 0;
    if (std::sscanf(line.c_str(), "MemAvailable: %zu kB", &kib) == 1) return kib << 10;
  }
  return size_t{1} << 30;
}

}  // namespace

size_t memory_budget() {
  size_t bytes = available_bytes();
  const size_t limit = read_number("/sys/fs/cgroup/memory.max", 0);
  if (limit > 0) {
    const size_t used = read_number("/sys/fs/cgroup/memory.current", 0);
    bytes = std::min(bytes, limit > used ? limit - used : 0);
  }
  return bytes / 2;
}

Region::Region() : page_bytes_(static_cast<size_t>(::getpagesize())) {}

Result<std::unique_ptr<Region>> Region::make(const RegionOptions& options) {
  std::unique_ptr<Region> region(new Region);
  UCM_TRY(region->map(options.bytes, options.huge_pages));
  UCM_TRY(region->equip(options));
  return region;
}

Result<std::unique_ptr<Region>> Region::over(std::byte* start, const RegionOptions& options) {
  std::unique_ptr<Region> region(new Region);
  region->adopt(start, options.bytes, options.huge_pages);
  UCM_TRY(region->equip(options));
  return region;
}

Status Region::equip(const RegionOptions& options) {
  device_ = options.device;
  const bool accelerator = device_ && device_->asynchronous();
  if (device_ && options.place) bind_to_node(device_->numa_node());
  if (options.prefault || accelerator) prefault();
  if (!accelerator) return {};
  const Status pinned = device_->register_host(data_, bytes_);
  if (!pinned.ok() && pinned.code() != Code::unsupported) return pinned;
  pinned_ = pinned.ok();
  if (!pinned_) log(LogLevel::warning, "memory: %s", pinned.message().c_str());
  return {};
}

void Region::adopt(std::byte* start, size_t bytes, bool huge_pages) {
  data_ = start;
  bytes_ = bytes;
  shared_ = true;
  const size_t huge = huge_page_bytes();
  if (!huge_pages || bytes < huge || !shared_huge_pages_on()) return;
  if (madvise(start, bytes, MADV_HUGEPAGE) == 0) page_bytes_ = huge;
}

Status Region::map(size_t bytes, bool huge_pages) {
  const size_t huge = huge_page_bytes();
  const size_t rounded = align_up(bytes, huge_pages && bytes >= huge ? huge : kAlign);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  if (huge_pages && bytes >= huge) {
    void* reserved = mmap(nullptr, rounded, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    if (reserved != MAP_FAILED) {
      data_ = static_cast<std::byte*>(reserved);
      bytes_ = rounded;
      page_bytes_ = huge;
      return {};
    }
  }
  // Room for alignment: a mapping that starts inside a huge page gets plain pages at both ends.
  const size_t slack = huge_pages && bytes >= huge ? huge : 0;
  void* mapped = mmap(nullptr, rounded + slack, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (mapped == MAP_FAILED) {
    return make_status(Code::out_of_memory,
                       "memory: a region of %zu bytes can not be mapped; lower buffer_number or "
                       "max_pinned_size",
                       rounded);
  }
  auto* start = static_cast<std::byte*>(mapped);
  if (slack != 0) {
    const size_t lead =
        align_up(reinterpret_cast<uintptr_t>(start), huge) - reinterpret_cast<uintptr_t>(start);
    if (lead != 0) munmap(start, lead);
    if (lead != slack) munmap(start + lead + rounded, slack - lead);
    start += lead;
    if (transparent_huge_pages_on() && madvise(start, rounded, MADV_HUGEPAGE) == 0) {
      page_bytes_ = huge;
    }
  }
  data_ = start;
  bytes_ = rounded;
  return {};
}

void Region::bind_to_node(int node) {
  if (node < 0 || node >= 64) return;
  const unsigned long mask = 1ul << node;
  constexpr int kPreferred = 1;  // MPOL_PREFERRED: near the device, elsewhere when that is full
  if (syscall(SYS_mbind, data_, bytes_, kPreferred, &mask, 64ul, 0ul) != 0) {
    log(LogLevel::info, "memory: pool stays unbound, NUMA node %d was refused", node);
  }
}

void Region::prefault() {
  const auto begin = std::chrono::steady_clock::now();
  const size_t chunks = (bytes_ + kPrefaultChunk - 1) / kPrefaultChunk;
  std::atomic<size_t> next{0};
  const auto touch = [this, chunks, &next] {
    for (size_t chunk = next++; chunk < chunks; chunk = next++) {
      const size_t offset = chunk * kPrefaultChunk;
      const size_t length = std::min(kPrefaultChunk, bytes_ - offset);
      // Without memory, or on a kernel before 5.14, pages come when they are first used.
      if (madvise(data_ + offset, length, MADV_POPULATE_WRITE) != 0) next = chunks;
    }
  };
  {
    base::WorkerGroup group("ucm-prefault", prefault_threads(chunks));
    for (unsigned i = 0; i < group.threads(); ++i) {
      if (!group.submit(base::Lane::normal, touch)) touch();
    }
  }
  log(LogLevel::info, "memory: %zu MiB prepared in %.1f s", bytes_ >> 20,
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
}

Region::~Region() {
  if (!data_) return;
  if (pinned_) {
    if (Status status = device_->unregister_host(data_); !status.ok()) {
      log(LogLevel::warning, "memory: %s", status.message().c_str());
    }
  }
  if (!shared_) munmap(data_, bytes_);
}

}  // namespace ucm::memory
