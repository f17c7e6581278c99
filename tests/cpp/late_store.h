// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "ucm/store.h"

namespace ucm::test {

// What a storage that hangs has been asked for. A test ends it when it likes, also long after the
// stage has given up and gone.
class LateAnswers {
 public:
  void add(const Batch& batch, TaskPtr task) {
    const std::lock_guard lock(mutex_);
    pending_.push_back({batch.on_row, std::move(task)});
  }
  size_t count() {
    const std::lock_guard lock(mutex_);
    return pending_.size();
  }
  // Answers everything, on the calling thread.
  void answer(const Status& status) { answer(0, count(), status); }
  void answer_first(const Status& status) { answer(0, 1, status); }
  void answer_last(const Status& status) { answer(count() - 1, 1, status); }

 private:
  struct Pending {
    std::function<void(uint32_t, const Status&)> on_row;
    TaskPtr task;
  };
  void answer(size_t first, size_t count, const Status& status) {
    std::vector<Pending> taken;
    {
      const std::lock_guard lock(mutex_);
      const auto begin = pending_.begin() + static_cast<ptrdiff_t>(first);
      taken.assign(begin, begin + static_cast<ptrdiff_t>(count));
      pending_.erase(begin, begin + static_cast<ptrdiff_t>(count));
    }
    for (const auto& [on_row, task] : taken) {
      for (uint32_t row = 0; row < task->rows(); ++row) {
        if (on_row) on_row(row, status);
        task->finish_row(row, status);
      }
    }
  }

  std::mutex mutex_;
  std::vector<Pending> pending_;
};

// A storage stage that has every block and answers no transfer; its `close` does not wait.
class LateStore : public Store {
 public:
  LateStore(BlockLayout layout, std::shared_ptr<LateAnswers> answers)
      : layout_(std::move(layout)), answers_(std::move(answers)) {}

  const BlockLayout& layout() const override { return layout_; }
  Status lookup(std::span<const BlockKey>, std::span<uint8_t> present) override {
    std::fill(present.begin(), present.end(), uint8_t{1});
    return {};
  }
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override { return keys.size(); }
  Status prefetch(std::span<const BlockKey>) override { return {}; }
  TaskPtr load(const Batch& batch) override { return start(batch); }
  TaskPtr dump(const Batch& batch) override { return start(batch); }
  Status remove(std::span<const BlockKey> keys) override {
    removed_.insert(removed_.end(), keys.begin(), keys.end());
    return {};
  }
  void close() override {}

 private:
  TaskPtr start(const Batch& batch) {
    TaskPtr task = Task::make(static_cast<uint32_t>(batch.rows()));
    answers_->add(batch, task);
    return task;
  }

  const BlockLayout layout_;
  const std::shared_ptr<LateAnswers> answers_;
  std::vector<BlockKey> removed_;
};

}  // namespace ucm::test
