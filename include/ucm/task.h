// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "ucm/status.h"

namespace ucm {

class Task;
using TaskPtr = std::shared_ptr<Task>;

// A transfer under way. It passes two milestones: `released` (the caller's memory is free again
// after a dump, or filled after a load) and `done` (durable and visible). A load to a device passes
// `started` before: from then on a stream can wait in the host's place. Thread-safe.
// A task fails row by row: `status` is the first cause, `failed_rows` names every row that failed.
// After a timeout of `wait` the transfer goes on; the caller's memory stays borrowed until `done`.
class UCM_API Task : public std::enable_shared_from_this<Task> {
 public:
  // Called once when the task is done, on the thread that finished the last row.
  using DoneCallback = std::function<void(Task&)>;
  // Lets later work on an engine's stream wait for some copies; only enqueues.
  using Fence = std::function<Status(uintptr_t stream)>;

  static TaskPtr make(uint32_t rows) { return std::make_shared<Task>(rows); }
  // A task that is already done, every row with `status`.
  static TaskPtr finished(uint32_t rows, Status status);

  explicit Task(uint32_t rows);

  uint32_t rows() const { return rows_; }
  // Whether the copies of every row are on a stream of the device, or have ended.
  bool started() const { return unstarted_.load(std::memory_order_acquire) == 0; }
  bool released() const { return unreleased_.load(std::memory_order_acquire) == 0; }
  bool done() const { return done_.load(std::memory_order_acquire); }
  // Rows that have not started end as `cancelled`, now; rows whose copy is under way finish. After
  // `cancel` a `wait_released` that answers anything but `timeout` means: no byte moves any more.
  void cancel();
  bool cancelled() const { return cancelled_.load(std::memory_order_acquire); }

  // Blocks until the milestone or for `timeout` at most. Answers the first cause, ok, or `timeout`.
  Status wait_started(std::chrono::nanoseconds timeout);
  Status wait_released(std::chrono::nanoseconds timeout);
  Status wait(std::chrono::nanoseconds timeout);
  // Later work on an engine's stream waits for all copies that have started; only enqueues. A copy
  // that fails after that is told by `status` once the task is done.
  Status order_stream(uintptr_t stream);
  Status status() const;
  // Ascending row numbers; complete once `done`.
  std::vector<uint32_t> failed_rows() const;
  // At once when the task is done already, else later. One callback per task.
  void on_done(DoneCallback callback);

  // --- for stages, which make tasks and report their rows ---
  // What `cancel` calls to end rows that still wait inside the stage. Set before the task is
  // shared.
  void on_cancel(std::function<void()> hook) { cancel_hook_ = std::move(hook); }
  // The copies of these rows are on a stream; `fence` makes an engine's stream wait for them.
  void start_rows(std::span<const uint32_t> rows, Fence fence);
  // Each row is released and finished exactly once; `finish_row` of an unreleased row releases it,
  // and what is released has started.
  void release_row(uint32_t row);
  void finish_row(uint32_t row, const Status& status);
  // The same for rows that all went well.
  void finish_rows(std::span<const uint32_t> rows);

 private:
  // What a row has passed, a bit each.
  struct RowState {
    std::atomic<uint8_t> passed{0};
  };
  // True: the last row has passed one of them.
  bool pass(std::span<const uint32_t> rows, uint8_t milestones);
  void notify();
  Status wait_until(const std::atomic<uint32_t>& open, const char* milestone,
                    std::chrono::nanoseconds timeout);
  void note_failure(uint32_t row, const Status& status);
  void complete();

  const uint32_t rows_;
  std::unique_ptr<RowState[]> row_states_;
  std::atomic<uint32_t> unstarted_;
  std::atomic<uint32_t> unreleased_;
  std::atomic<uint32_t> unfinished_;
  std::atomic<bool> done_{false};
  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Fence> fences_;
  Status first_cause_;
  std::vector<uint32_t> failed_rows_;
  DoneCallback callback_;
  std::function<void()> cancel_hook_;
};

}  // namespace ucm
