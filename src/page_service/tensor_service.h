// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/worker_group.h"
#include "page_service/block_task.h"
#include "page_service/scope_folder.h"
#include "ucm/memory.h"
#include "ucm/page_service.h"

namespace ucm::page_service {

// The store reads and writes slots of our own staging memory; only our workers touch the tensor,
// page by page. So an abort never has to wait for storage, and late transfers end in the staging.
class TensorService final : public PageService, public std::enable_shared_from_this<TensorService> {
 public:
  static Result<std::shared_ptr<TensorService>> open(const PageServiceOptions& options,
                                                     const PageTensor& tensor);
  ~TensorService() override;

  void lookup(std::span<const BlockKey> keys, uint64_t pages, uint32_t block_pages,
              std::span<uint8_t> present) override;
  Result<PageTaskPtr> create(Direction direction, const PageBlocks& blocks) override;
  void abort(const PageTaskPtr& task) override;
  uint64_t active(Direction direction) const override {
    return elsewhere() ? 0 : active_[index(direction)].load();
  }
  PageServiceStats stats() const override;
  void close(std::chrono::milliseconds timeout) override;
  // In a forked child: it has none of the threads, and locks may be held by nobody. Nothing is
  // found there, tasks end aborted, and the parent's service is left alone.
  bool elsewhere() const { return ::getpid() != owner_; }

 private:
  // A page whose bytes are, or will be, in a slot of the staging.
  struct Staged {
    PageItem item;
    Lease slot;
  };
  // Pages of one task that go to the store in one call.
  struct Bundle {
    BlockTaskPtr task;
    std::vector<Staged> pages;
  };
  using BundlePtr = std::shared_ptr<Bundle>;

  TensorService(const PageServiceOptions& options, const PageTensor& tensor);
  static size_t index(Direction direction) { return static_cast<size_t>(direction); }
  Status start();
  Result<std::shared_ptr<PageStore>> open_store(uint64_t slot_bytes);
  Status check_blocks(const PageBlocks& blocks) const;
  std::vector<PageItem> list_items(const PageBlocks& blocks) const;
  void find_stored(const std::vector<PageItem>& items, std::vector<bool>* stored) const;
  void task_ready(BlockTask& task);
  void note_used(const std::vector<PageItem>& items);
  void note_used(const std::vector<BlockKey>& keys);
  void pass_on_uses();
  void abort_all(Direction direction);
  void leave_folder();

  // tensor_steps.cpp: what the workers do
  void work();
  bool has_step() const;
  bool can_dump() const;
  size_t slots_for_loads() const;
  BundlePtr take_pages(std::deque<BlockTaskPtr>* queue, size_t most);
  void dump_pages(const BundlePtr& bundle);
  void load_pages(const BundlePtr& bundle);
  void store_answered(const BundlePtr& bundle, uint32_t row, const Status& status);
  void land(const BundlePtr& bundle, uint32_t row);
  void give_back(std::vector<Lease> slots, size_t dumps);
  void count_failure(Direction direction, const PageItem& item, const Status& status);
  std::byte* address(const PageItem& item) const {
    return tensor_.data + static_cast<uint64_t>(item.page) * tensor_.page_bytes;
  }

  const PageServiceOptions options_;
  const PageTensor tensor_;
  const pid_t owner_ = ::getpid();
  ScopeFolder folder_;
  std::shared_ptr<PageStore> store_;
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<base::WorkerGroup> workers_;
  size_t slots_ = 0;
  size_t bundle_pages_ = 1;

  mutable std::mutex mutex_;
  std::condition_variable wake_;    // workers
  std::condition_variable closed_;  // close: the last dump is over
  std::vector<Lease> free_;
  size_t dump_slots_ = 0;  // taken by dumps: they leave half of the staging to loads
  unsigned turns_ = 0;     // between loads and dumps
  std::deque<BlockTaskPtr> loads_;
  std::deque<BlockTaskPtr> dumps_;
  std::deque<std::pair<BundlePtr, uint32_t>> landed_;  // read and right, to be copied
  std::unordered_map<const BlockTask*, std::weak_ptr<BlockTask>> live_;
  bool closing_ = false;
  bool stopping_ = false;
  std::atomic<bool> store_closed_{false};

  mutable std::mutex notes_mutex_;
  std::vector<BlockKey> used_;  // the last one most recently; passed on before the next dump
  std::map<std::string, uint64_t> failed_[2];
  std::chrono::steady_clock::time_point next_log_[2] = {};

  std::array<std::atomic<uint64_t>, 2> active_{};
  std::array<std::atomic<uint64_t>, 2> moved_{};
  mutable std::atomic<uint64_t> queried_{0};
  mutable std::atomic<uint64_t> found_{0};
};

}  // namespace ucm::page_service
