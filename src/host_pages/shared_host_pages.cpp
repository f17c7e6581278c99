// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <filesystem>
#include <mutex>
#include <string>
#include <utility>

#include "host_pages/page_memory.h"
#include "host_pages/page_table.h"
#include "memory/robust_mutex.h"
#include "memory/shared_segment.h"
#include "ucm/host_pages.h"
#include "ucm/log.h"

namespace ucm {
namespace host_pages {
namespace {

using memory::SharedSegment;

constexpr uint64_t kMagic = 0x3147504D4355ull;  // "UCMPG1"
constexpr char kFilePrefix[] = "pages-";
constexpr size_t kFrontBytes = 1024;
constexpr uint32_t kMostPages = 1u << 28;
// What `has_memory` says once the memory can be reached.
constexpr uint32_t kPlaced = 1;
constexpr uint32_t kSpread = 2;  // over the NUMA nodes, by every mapping

// In front of the table: what a newcomer has to know before it can look at anything else.
struct Front {
  uint64_t magic;
  uint64_t page_bytes;
  uint32_t pages;
  std::atomic<uint32_t> has_memory;
  memory::RobustMutex mutex;
  // Process and descriptor, by member, through which the memory can be reached.
  std::atomic<uint64_t> reachable[SharedSegment::kMembers];
};
static_assert(sizeof(Front) <= kFrontBytes);

uint64_t address_of(int pid, int descriptor) {
  return static_cast<uint64_t>(static_cast<uint32_t>(pid)) << 32 |
         static_cast<uint32_t>(descriptor);
}

Result<std::string> path_of(const std::string& name) {
  const bool usable = !name.empty() && name.size() <= 200 && name.front() != '.' &&
                      std::ranges::all_of(name, [](unsigned char c) {
                        return std::isalnum(c) || c == '-' || c == '_' || c == '.';
                      });
  if (!usable) {
    return make_status(Code::invalid_argument,
                       "host pages: name '%s' has letters, digits, '-', '_' and '.' only",
                       name.c_str());
  }
  UCM_TRY_ASSIGN(const std::string directory, memory::runtime_directory());
  return directory + "/" + kFilePrefix + name;
}

// Servers have a new name each time, so what killed ones left would gather. Looking at pages nobody
// has open removes their file.
void clear_leftovers() {
  const auto directory = memory::runtime_directory();
  if (!directory.ok()) return;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory.value(), error)) {
    if (entry.path().filename().string().starts_with(kFilePrefix)) {
      (void)SharedSegment::find(entry.path());
    }
  }
}

// Held for the time of one call. Whoever finds that its holder died puts the index in order.
class Guard {
 public:
  Guard(memory::RobustMutex* mutex, PageTable* table) : mutex_(mutex) {
    if (!mutex_->lock()) return;
    table->repair();
    mutex_->repaired();
    log(LogLevel::warning, "host pages: a process died inside the index; it is in order again");
  }
  ~Guard() { mutex_->unlock(); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

 private:
  memory::RobustMutex* const mutex_;
};

class SharedHostPages final : public HostPages {
 public:
  SharedHostPages(std::unique_ptr<SharedSegment> segment, std::unique_ptr<PageMemory> bytes)
      : segment_(std::move(segment)),
        front_(reinterpret_cast<Front*>(segment_->data())),
        table_(segment_->data() + kFrontBytes, segment_->member(),
               [this](uint32_t member) { return segment_->alive(member); }),
        memory_(std::move(bytes)) {
    if (!memory_) return;
    front_->reachable[segment_->member()].store(address_of(::getpid(), memory_->descriptor()));
    uint32_t none = 0;
    front_->has_memory.compare_exchange_strong(none, memory_->spread() ? kSpread : kPlaced);
  }

  ~SharedHostPages() override {
    if (!memory_) return;
    // A forked child has this object too, and its parent goes on.
    uint64_t own = address_of(::getpid(), memory_->descriptor());
    front_->reachable[segment_->member()].compare_exchange_strong(own, 0);
  }

  std::vector<Allocation> allocate(std::span<const BlockKey> keys) override {
    std::vector<Allocation> out(keys.size());
    const Guard guard(&front_->mutex, &table_);
    for (size_t i = 0; i < keys.size(); ++i) {
      out[i] = table_.allocate(keys[i]);
      if (out[i].page == kNone) break;
    }
    return out;
  }

  std::vector<int32_t> query(std::span<const BlockKey> keys) override {
    std::vector<int32_t> out;
    out.reserve(keys.size());
    const Guard guard(&front_->mutex, &table_);
    for (const BlockKey& key : keys) {
      const int32_t page = table_.query(key);
      if (page == kNone) break;
      out.push_back(page);
    }
    return out;
  }

  int32_t find(const BlockKey& key) override {
    const Guard guard(&front_->mutex, &table_);
    return table_.find(key);
  }

  Status mark_ready(std::span<const int32_t> pages, bool release, bool offload) override {
    UCM_TRY(check(pages));
    const Guard guard(&front_->mutex, &table_);
    table_.mark_ready(pages, release, offload);
    return {};
  }

  Status release(std::span<const int32_t> pages) override {
    UCM_TRY(check(pages));
    const Guard guard(&front_->mutex, &table_);
    table_.release(pages);
    return {};
  }

  Result<bool> all_ready(std::span<const int32_t> pages) const override {
    UCM_TRY(check(pages));
    return table_.all_ready(pages);
  }

  std::vector<std::vector<int32_t>> take_offloads() override {
    const Guard guard(&front_->mutex, &table_);
    return table_.take_offloads();
  }

  Result<PageView> view(int32_t page) const override {
    if (page == kNone) return make_status(Code::invalid_argument, "host pages: no page");
    UCM_TRY(check({&page, 1}));
    return table_.view(page);
  }

  void count_transfer(Direction direction, uint64_t pages) override {
    const Guard guard(&front_->mutex, &table_);
    table_.count_transfer(direction, pages);
  }

  HostPagesStats stats() override {
    const Guard guard(&front_->mutex, &table_);
    return table_.stats();
  }

  uint32_t pages() const override { return front_->pages; }
  size_t page_bytes() const override { return front_->page_bytes; }
  std::byte* data() const override { return memory_ ? memory_->data() : nullptr; }
  size_t memory_page_bytes() const override { return memory_ ? memory_->page_bytes() : 0; }
  bool pinned() const override { return memory_ && memory_->pinned(); }

 private:
  Status check(std::span<const int32_t> pages) const {
    const auto wrong = std::ranges::find_if(pages, [this](int32_t page) {
      return page != kNone && static_cast<uint32_t>(page) >= front_->pages;
    });
    if (wrong == pages.end()) return {};
    return make_status(Code::invalid_argument, "host pages: page %d of %u", *wrong, front_->pages);
  }

  const std::unique_ptr<SharedSegment> segment_;
  Front* const front_;
  PageTable table_;
  const std::unique_ptr<PageMemory> memory_;
};

Result<std::unique_ptr<PageMemory>> reach_memory(const Front& front,
                                                 const HostPagesOptions& options) {
  const size_t bytes = front.page_bytes * front.pages;
  for (const std::atomic<uint64_t>& entry : front.reachable) {
    const uint64_t address = entry.load();
    if (address == 0) continue;
    auto memory = PageMemory::reach(static_cast<int>(address >> 32),
                                    static_cast<int>(address & 0xFFFFFFFFu), bytes, options);
    if (memory.ok() || memory.status().code() != Code::not_found) return memory;
  }
  return make_status(Code::unavailable,
                     "host pages: the memory of '%s' is out of reach; its processes must run as "
                     "one user with one /proc",
                     options.name.c_str());
}

}  // namespace
}  // namespace host_pages

Result<std::unique_ptr<HostPages>> HostPages::create(const HostPagesOptions& options) {
  using namespace host_pages;
  if (options.pages == 0 || options.pages > kMostPages) {
    return make_status(Code::invalid_argument, "host pages: %u pages, 1 to %u are possible",
                       options.pages, kMostPages);
  }
  UCM_TRY_ASSIGN(const std::string path, path_of(options.name));
  clear_leftovers();
  std::unique_ptr<PageMemory> memory;
  if (options.page_bytes != 0) {
    UCM_TRY_ASSIGN(memory, PageMemory::make(options.page_bytes * options.pages, options));
  }
  bool fresh = false;
  const size_t bytes = kFrontBytes + PageTable::bytes(options.pages);
  UCM_TRY_ASSIGN(auto segment, SharedSegment::join(path, bytes, [&](std::byte* data) {
                   auto* front = new (data) Front{};
                   front->page_bytes = options.page_bytes;
                   front->pages = options.pages;
                   front->mutex.init();
                   PageTable::prepare(data + kFrontBytes, options.pages);
                   front->magic = kMagic;
                   fresh = true;
                 }));
  if (!fresh) {
    return make_status(Code::unavailable,
                       "host pages: '%s' is open in another process; every server needs a name of "
                       "its own",
                       options.name.c_str());
  }
  return std::unique_ptr<HostPages>(new SharedHostPages(std::move(segment), std::move(memory)));
}

Result<std::unique_ptr<HostPages>> HostPages::attach(const HostPagesOptions& options) {
  using namespace host_pages;
  UCM_TRY_ASSIGN(const std::string path, path_of(options.name));
  // Looked at first: joining what nobody has open would make it.
  UCM_TRY(SharedSegment::find(path).status());
  UCM_TRY_ASSIGN(auto segment, SharedSegment::join(path, kFrontBytes, [](std::byte*) {}));
  const auto* front = reinterpret_cast<const Front*>(segment->data());
  const bool complete = front->page_bytes == 0 || front->has_memory.load() != 0;
  if (front->magic != kMagic || !complete) {
    return make_status(Code::not_found, "host pages: nobody has '%s' open", options.name.c_str());
  }
  std::unique_ptr<PageMemory> memory;
  if (front->page_bytes != 0 && options.page_bytes != 0) {
    HostPagesOptions own = options;
    own.numa_interleave = front->has_memory.load() == kSpread;
    UCM_TRY_ASSIGN(memory, reach_memory(*front, own));
  }
  return std::unique_ptr<HostPages>(new SharedHostPages(std::move(segment), std::move(memory)));
}

}  // namespace ucm
