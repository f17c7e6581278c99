// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "store/stage_metrics.h"

namespace ucm::posix {

// How many blocks and bytes the roots hold, for the metrics: what the last count of the files
// found, and what this process added and removed since. Thread-safe.
class BlockBooks {
 public:
  explicit BlockBooks(std::shared_ptr<StageMetrics> metrics) : metrics_(std::move(metrics)) {}

  // Around the calls that make or remove a block's file, from before the first of them.
  class Change {
   public:
    explicit Change(BlockBooks* books) : books_(books) { books_->step(+1); }
    ~Change() { books_->step(-1); }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    BlockBooks* const books_;
  };

  void came(uint64_t bytes) { add(1, static_cast<int64_t>(bytes)); }
  void went(uint64_t bytes) { evicted(1, bytes); }
  void evicted(uint64_t blocks, uint64_t bytes) {
    add(-static_cast<int64_t>(blocks), -static_cast<int64_t>(bytes));
  }

  // Before files are counted; hand it to `settle`.
  uint64_t begin_count() const {
    const std::lock_guard lock(mutex_);
    return under_way_ == 0 ? changes_ : kDisturbed;
  }
  // Takes over what was counted. False: files came or went meanwhile, so nobody can say whether
  // the count has them, and the books stay as they were. `anyhow`: better a few blocks wrong.
  bool settle(uint64_t since, uint64_t blocks, uint64_t bytes, bool anyhow) {
    const std::lock_guard lock(mutex_);
    if (since != changes_ && !anyhow) return false;
    metrics_->blocks().set(static_cast<int64_t>(blocks));
    metrics_->used_bytes().set(static_cast<int64_t>(bytes));
    return true;
  }

 private:
  static constexpr uint64_t kDisturbed = UINT64_MAX;

  void step(int by) {
    const std::lock_guard lock(mutex_);
    ++changes_;
    under_way_ += by;
  }
  void add(int64_t blocks, int64_t bytes) {
    const std::lock_guard lock(mutex_);
    ++changes_;
    metrics_->blocks().add(blocks);
    metrics_->used_bytes().add(bytes);
  }

  const std::shared_ptr<StageMetrics> metrics_;
  mutable std::mutex mutex_;
  uint64_t changes_ = 0;
  int64_t under_way_ = 0;
};

}  // namespace ucm::posix
