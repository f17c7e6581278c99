// SPDX-License-Identifier: Apache-2.0
#include "page_service/tensor_service.h"

#include <algorithm>
#include <thread>

#include "base/checksum.h"
#include "page_service/page_keys.h"
#include "page_service/shared_pages.h"
#include "ucm/layout.h"
#include "ucm/log.h"

namespace ucm {
namespace page_service {
namespace {

constexpr size_t kLeastSlots = 4;
constexpr size_t kMostSlots = 4096;
constexpr uint64_t kBundleBytes = 1 << 20;
constexpr size_t kMostUses = 1 << 16;
constexpr uint32_t kMostWorkers = 8;
constexpr std::chrono::milliseconds kStoreTimeout{1000};  // even when the writes took all the time
constexpr uint32_t kMostDepth = 64;

Status check_options(const PageServiceOptions& options, const PageTensor& tensor) {
  if (options.path.empty()) return make_status(Code::invalid_argument, "light_mem: no path");
  if (!tensor.data || tensor.pages == 0 || tensor.page_bytes == 0) {
    return make_status(Code::invalid_argument, "light_mem: the tensor has no bytes");
  }
  if (tensor.pages > INT32_MAX || align_up(tensor.page_bytes) > UINT32_MAX) {
    return make_status(Code::invalid_argument,
                       "light_mem: %llu pages of %llu bytes; at most 2^31 pages below 4 GiB",
                       static_cast<unsigned long long>(tensor.pages),
                       static_cast<unsigned long long>(tensor.page_bytes));
  }
  return {};
}

}  // namespace

TensorService::TensorService(const PageServiceOptions& options, const PageTensor& tensor)
    : options_(options), tensor_(tensor) {}

TensorService::~TensorService() { close(std::chrono::seconds(0)); }

Result<std::shared_ptr<TensorService>> TensorService::open(const PageServiceOptions& options,
                                                           const PageTensor& tensor) {
  UCM_TRY(check_options(options, tensor));
  std::shared_ptr<TensorService> service(new TensorService(options, tensor));
  UCM_TRY(service->start());
  return service;
}

Result<std::shared_ptr<PageStore>> TensorService::open_store(uint64_t slot_bytes) {
  // Beside the scope of the folder: not even a folder patched together serves foreign pages.
  const uint64_t scope_id = base::digest_64(options_.scope.data(), options_.scope.size(), 0) | 1;
  if (!options_.node.empty()) {
    UCM_TRY_ASSIGN(auto shared, SharedPages::open(options_, tensor_.page_bytes, scope_id));
    return std::shared_ptr<PageStore>(std::move(shared));
  }
  UCM_TRY_ASSIGN(folder_, ScopeFolder::open(options_));
  PageStoreOptions pages;
  pages.path = folder_.pages;
  pages.slot_bytes = slot_bytes;
  pages.capacity_bytes = options_.capacity_bytes;
  pages.block_bytes = static_cast<uint32_t>(tensor_.page_bytes);
  pages.layout_id = scope_id;
  pages.read_only = options_.read_only;
  pages.io_direct = options_.io_direct;
  pages.use_io_uring = options_.use_io_uring;
  pages.io_depth = static_cast<uint32_t>(std::min<size_t>(slots_, kMostDepth));
  pages.eviction_policy = "lru";
  // All of the capacity can be used: eviction only makes the slot that a page needs.
  pages.eviction_high = 1;
  pages.eviction_low = 1;
  if (!options_.read_only) UCM_TRY(check_space(folder_.pages, pages.capacity_bytes));
  return PageStore::open(pages);
}

Status TensorService::start() {
  const uint64_t slot_bytes = align_up(tensor_.page_bytes);
  slots_ = std::clamp<uint64_t>(options_.staging_bytes / slot_bytes, kLeastSlots, kMostSlots);
  bundle_pages_ = std::clamp<uint64_t>(kBundleBytes / slot_bytes, 1, slots_ / 2);
  UCM_TRY_ASSIGN(store_, open_store(slot_bytes));
  PoolOptions staging;
  staging.slot_bytes = slot_bytes;
  staging.slots = slots_;
  UCM_TRY_ASSIGN(pool_, Pool::make(staging));
  free_.reserve(slots_);
  for (size_t i = 0; i < slots_; ++i) free_.push_back(pool_->try_lease());
  const uint32_t threads = std::clamp<uint32_t>(options_.workers, 1, kMostWorkers);
  workers_ = std::make_unique<base::WorkerGroup>("ucm-light", threads);
  // Workers end before the service does: `close` joins them.
  for (uint32_t i = 0; i < threads; ++i) {
    workers_->submit(base::Lane::normal, [this] { work(); });
  }
  return {};
}

void TensorService::lookup(std::span<const BlockKey> keys, uint64_t pages, uint32_t block_pages,
                           std::span<uint8_t> present) {
  if (elsewhere()) {
    std::fill(present.begin(), present.end(), uint8_t{0});
    return;
  }
  queried_ += pages;
  std::vector<BlockKey> used;
  if (block_pages == 1) {
    store_->lookup(keys, present);
    for (size_t b = keys.size(); b-- > 0;) {
      if (present[b]) used.push_back(keys[b]);
    }
  } else {
    std::vector<BlockKey> all;
    all.reserve(pages);
    for (size_t b = 0; b < keys.size(); ++b) {
      const uint32_t count = pages_in_block(b, pages, block_pages);
      for (uint32_t i = 0; i < count; ++i) all.push_back(page_key(keys[b], count - 1 - i));
    }
    std::vector<uint8_t> there(all.size());
    store_->lookup(all, there);
    for (size_t b = keys.size(); b-- > 0;) {
      const size_t first = b * block_pages;
      const size_t end = std::min<size_t>(first + block_pages, pages);
      present[b] = std::all_of(&there[first], &there[0] + end, [](uint8_t p) { return p != 0; });
      for (size_t i = end; present[b] && i-- > first;) used.push_back(all[i]);
    }
  }
  found_ += used.size();
  note_used(used);
}

Status TensorService::check_blocks(const PageBlocks& blocks) const {
  if (blocks.block_pages == 0 ||
      blocks.keys.size() != block_count(blocks.pages.size(), blocks.block_pages)) {
    return make_status(Code::invalid_argument,
                       "%zu keys for %zu pages in blocks of %u: %llu keys are expected",
                       blocks.keys.size(), blocks.pages.size(), blocks.block_pages,
                       blocks.block_pages == 0 ? 0ull
                                               : static_cast<unsigned long long>(block_count(
                                                     blocks.pages.size(), blocks.block_pages)));
  }
  for (const int32_t page : blocks.pages) {
    if (page >= 0 && static_cast<uint64_t>(page) < tensor_.pages) continue;
    return make_status(Code::invalid_argument, "page %d: the tensor has pages 0 to %llu", page,
                       static_cast<unsigned long long>(tensor_.pages - 1));
  }
  return {};
}

std::vector<PageItem> TensorService::list_items(const PageBlocks& blocks) const {
  std::vector<PageItem> items;
  for (size_t b = blocks.first_block; b < blocks.keys.size(); ++b) {
    const uint32_t count = pages_in_block(b, blocks.pages.size(), blocks.block_pages);
    for (uint32_t i = 0; i < count; ++i) {
      items.push_back({page_key(blocks.keys[b], count - 1 - i),
                       blocks.pages[b * blocks.block_pages + i],
                       static_cast<uint32_t>(b - blocks.first_block)});
    }
  }
  return items;
}

void TensorService::find_stored(const std::vector<PageItem>& items,
                                std::vector<bool>* stored) const {
  std::vector<BlockKey> keys;
  keys.reserve(items.size());
  for (const PageItem& item : items) keys.push_back(item.key);
  std::vector<uint8_t> present(keys.size());
  store_->lookup(keys, present);
  stored->assign(stored->size(), true);
  for (size_t i = 0; i < items.size(); ++i) {
    if (!present[i]) (*stored)[items[i].block] = false;
  }
}

Result<PageTaskPtr> TensorService::create(Direction direction, const PageBlocks& blocks) {
  UCM_TRY(check_blocks(blocks));
  std::vector<PageItem> items = list_items(blocks);
  const size_t all = blocks.keys.size();
  const auto count = static_cast<uint32_t>(all - std::min<size_t>(all, blocks.first_block));
  std::vector<bool> stored(count, false);
  if (elsewhere()) {
    auto task =
        std::make_shared<BlockTask>(direction, std::move(items), count, stored, [](BlockTask&) {});
    task->abort();
    return PageTaskPtr(std::move(task));
  }
  // Shared pages are files: asking for them would be I/O, so nothing is promised there.
  if (direction == Direction::dump && options_.node.empty()) {
    find_stored(items, &stored);
    std::vector<PageItem> known;
    for (const PageItem& item : items) {
      if (stored[item.block]) known.push_back(item);
    }
    // What is promised to be there must not make room for the rest of the same task.
    note_used(known);
  }
  ++active_[index(direction)];
  auto task = std::make_shared<BlockTask>(direction, std::move(items), count, stored,
                                          [this](BlockTask& done) { task_ready(done); });
  if (count == 0) --active_[index(direction)];
  if (task->ready()) return PageTaskPtr(std::move(task));
  bool refused = false;
  {
    const std::lock_guard lock(mutex_);
    refused = closing_;
    live_.emplace(task.get(), task);
    if (!refused) (direction == Direction::load ? loads_ : dumps_).push_back(task);
  }
  if (refused) {
    task->abort();
  } else {
    wake_.notify_all();
  }
  return PageTaskPtr(std::move(task));
}

void TensorService::abort(const PageTaskPtr& task) {
  if (!elsewhere()) static_cast<BlockTask&>(*task).abort();
}

void TensorService::task_ready(BlockTask& task) {
  note_used(task.items());
  {
    const std::lock_guard lock(mutex_);
    live_.erase(&task);
  }
  --active_[index(task.direction())];
}

// The first of a chain stays longest: without it the rest can not be reached.
void TensorService::note_used(const std::vector<PageItem>& items) {
  std::vector<BlockKey> keys;
  keys.reserve(items.size());
  for (size_t i = items.size(); i-- > 0;) keys.push_back(items[i].key);
  note_used(keys);
}

void TensorService::note_used(const std::vector<BlockKey>& keys) {
  if (keys.empty() || options_.read_only) return;
  const std::lock_guard lock(notes_mutex_);
  used_.insert(used_.end(), keys.begin(), keys.end());
  // Uses matter when something has to leave; without writes the oldest of them are forgotten.
  if (used_.size() > kMostUses) used_.erase(used_.begin(), used_.end() - kMostUses / 2);
}

void TensorService::pass_on_uses() {
  std::vector<BlockKey> used;
  {
    const std::lock_guard lock(notes_mutex_);
    used.swap(used_);
  }
  if (!used.empty()) store_->touch(used);
}

PageServiceStats TensorService::stats() const {
  PageServiceStats stats;
  if (elsewhere()) return stats;
  stats.store = store_->stats();
  stats.pages_written = moved_[index(Direction::dump)];
  stats.pages_read = moved_[index(Direction::load)];
  stats.pages_queried = queried_;
  stats.pages_found = found_;
  stats.staging_bytes = pool_->slots() * pool_->slot_bytes();
  stats.workers = workers_->threads();
  const std::lock_guard lock(notes_mutex_);
  stats.failed_loads = failed_[index(Direction::load)];
  stats.failed_dumps = failed_[index(Direction::dump)];
  return stats;
}

void TensorService::abort_all(Direction direction) {
  std::vector<BlockTaskPtr> tasks;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [address, weak] : live_) {
      BlockTaskPtr task = weak.lock();
      if (task && task->direction() == direction) tasks.push_back(std::move(task));
    }
  }
  for (const BlockTaskPtr& task : tasks) task->abort();
}

void TensorService::close(std::chrono::milliseconds timeout) {
  if (elsewhere()) return;
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  {
    const std::lock_guard lock(mutex_);
    if (closing_ || !workers_) return;
    closing_ = true;
  }
  abort_all(Direction::load);
  {
    std::unique_lock lock(mutex_);
    closed_.wait_until(lock, deadline, [this] { return dumps_.empty() && dump_slots_ == 0; });
    stopping_ = true;
  }
  abort_all(Direction::dump);
  wake_.notify_all();
  workers_->close();
  pass_on_uses();
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline - std::chrono::steady_clock::now());
  store_->close(std::max(left, kStoreTimeout));
  store_closed_ = true;
  leave_folder();
}

// What the storage has not answered yet may still write there: the last of it leaves the folder.
void TensorService::leave_folder() {
  if (!store_closed_ || store_->stats().transfers_under_way > 0) return;
  const std::lock_guard lock(mutex_);
  folder_.lock = io::LockFile();
}

}  // namespace page_service

Result<std::shared_ptr<PageService>> PageService::open(const PageServiceOptions& options,
                                                       const PageTensor& tensor) {
  UCM_TRY_ASSIGN(auto service, page_service::TensorService::open(options, tensor));
  page_service::TensorService* const address = service.get();
  // Transfers under way keep the service alive, so the caller's pointer closes it: a thread of the
  // store must never be the one that joins the others.
  return std::shared_ptr<PageService>(address,
                                      [service = std::move(service)](PageService*) mutable {
                                        if (service->elsewhere()) {
                                          // Threads that are not there can not be joined.
                                          new auto(std::move(service));
                                          return;
                                        }
                                        service->close(std::chrono::seconds(10));
                                        service.reset();
                                      });
}

}  // namespace ucm
