// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "store/batch_check.h"
#include "ucm/store.h"

namespace ucm::test {

// A storage stage that keeps blocks in a map and answers from threads of its own, late, wrong or
// not at all when a test asks for it.
class MemoryStore : public Store {
 public:
  explicit MemoryStore(BlockLayout layout) : layout_(std::move(layout)) {}
  ~MemoryStore() override { close(); }

  std::atomic<int> loads{0};
  std::atomic<int> loaded_rows{0};
  std::atomic<int> dumps{0};
  std::atomic<int> dumped_rows{0};
  std::atomic<bool> fail_loads{false};
  std::atomic<bool> fail_dumps{false};
  std::atomic<Code> dump_failure{Code::no_space};
  std::atomic<bool> fail_lookups{false};
  std::atomic<int> lookups{0};
  std::atomic<int> renewals{0};
  std::atomic<int> delay_ms{0};

  // While held, no transfer ends.
  void hold() {
    const std::lock_guard lock(mutex_);
    held_ = true;
  }
  void let_go() {
    {
      const std::lock_guard lock(mutex_);
      held_ = false;
    }
    changed_.notify_all();
  }
  size_t size() {
    const std::lock_guard lock(mutex_);
    return blocks_.size();
  }

  const BlockLayout& layout() const override { return layout_; }
  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override {
    UCM_TRY(asked());
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < keys.size(); ++i) present[i] = blocks_.contains(keys[i]);
    return {};
  }
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override {
    UCM_TRY(asked());
    const std::lock_guard lock(mutex_);
    size_t count = 0;
    while (count < keys.size() && blocks_.contains(keys[count])) ++count;
    return count;
  }
  Status prefetch(std::span<const BlockKey>) override { return {}; }
  TaskPtr load(const Batch& batch) override {
    ++loads;
    return start(batch, true);
  }
  TaskPtr dump(const Batch& batch) override {
    ++dumps;
    return start(batch, false);
  }
  Status remove(std::span<const BlockKey> keys) override {
    const std::lock_guard lock(mutex_);
    for (const BlockKey& key : keys) blocks_.erase(key);
    return {};
  }
  Status renew(std::span<const BlockKey>) override {
    ++renewals;
    return {};
  }
  void close() override {
    let_go();
    std::vector<std::thread> threads;
    {
      const std::lock_guard lock(mutex_);
      threads.swap(threads_);
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  struct Transfer {
    std::vector<BlockKey> keys;
    std::vector<uintptr_t> addresses;
    std::function<void(uint32_t, const Status&)> on_row;
    TaskPtr task;
  };

  Status asked() {
    ++lookups;
    if (fail_lookups) return make_status(Code::timeout, "memory store: asked not to answer");
    return {};
  }

  TaskPtr start(const Batch& batch, bool load) {
    const auto rows = static_cast<uint32_t>(batch.rows());
    if (Status status = check_batch(batch, layout_); !status.ok()) {
      return Task::finished(rows, status);
    }
    Transfer transfer{{batch.keys.begin(), batch.keys.end()},
                      {batch.addresses.begin(), batch.addresses.end()},
                      batch.on_row,
                      Task::make(rows)};
    const TaskPtr task = transfer.task;
    const std::lock_guard lock(mutex_);
    threads_.emplace_back([this, load, transfer = std::move(transfer)] {
      std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms.load()));
      for (uint32_t row = 0; row < transfer.keys.size(); ++row) {
        const Status status = load ? load_row(transfer, row) : dump_row(transfer, row);
        if (transfer.on_row) transfer.on_row(row, status);
        transfer.task->finish_row(row, status);
      }
    });
    return task;
  }

  Status load_row(const Transfer& transfer, uint32_t row) {
    std::unique_lock lock(mutex_);
    ++loaded_rows;
    const auto found = blocks_.find(transfer.keys[row]);
    const bool there = found != blocks_.end();
    if (there && !fail_loads) {
      std::memcpy(reinterpret_cast<void*>(transfer.addresses[row]), found->second.data(),
                  found->second.size());
    }
    changed_.wait(lock, [this] { return !held_; });
    if (fail_loads) return make_status(Code::io_error, "memory store: asked to fail");
    return there ? Status() : make_status(Code::not_found, "memory store: absent");
  }

  Status dump_row(const Transfer& transfer, uint32_t row) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !held_; });
    ++dumped_rows;
    if (fail_dumps) return make_status(dump_failure, "memory store: asked to fail");
    const auto* from = reinterpret_cast<const std::byte*>(transfer.addresses[row]);
    blocks_[transfer.keys[row]] = {from, from + layout_.block_bytes()};
    return {};
  }

  const BlockLayout layout_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
  std::unordered_map<BlockKey, std::vector<std::byte>> blocks_;
  std::vector<std::thread> threads_;
};

}  // namespace ucm::test
