// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "base/worker_group.h"
#include "store/stage_metrics.h"
#include "ucm/batch.h"
#include "ucm/task.h"

namespace ucm::posix {

// One batch under way: its own copy of the keys and addresses, and who may end each row. A worker
// `hold`s a row while it touches the caller's memory and lets it `loose` around system calls, which
// may hang; only a loose row can be given up by the deadline. Thread-safe.
class Transfer {
 public:
  using Clock = std::chrono::steady_clock;

  // `block_bytes` and `metrics`: what is reported when the last row has ended.
  Transfer(Direction direction, const Batch& batch, std::chrono::nanoseconds timeout,
           size_t block_bytes, std::shared_ptr<StageMetrics> metrics);

  const TaskPtr& task() const { return task_; }
  Direction direction() const { return direction_; }
  uint32_t rows() const { return static_cast<uint32_t>(keys_.size()); }
  const BlockKey& key(uint32_t row) const { return keys_[row]; }
  std::byte* memory(uint32_t row) const { return memory_[row]; }
  // The digest of the row's payload, when the caller knows it; else null.
  const Digest* digest(uint32_t row) const { return digests_.empty() ? nullptr : &digests_[row]; }
  Clock::time_point deadline() const { return deadline_; }
  int64_t started_ns() const { return started_ns_; }  // Unix time
  // Rows further back in a batch count as used a little earlier: tails are collected before heads.
  int64_t use_time(uint32_t row) const { return started_ns_ - int64_t{row} * 1000; }
  bool done() const { return unfinished_.load(std::memory_order_acquire) == 0; }

  // First touch of a row. False: it was given up or cancelled, leave it alone.
  bool start(uint32_t row);
  // Takes a loose or riding row back. False: it was given up.
  bool hold(uint32_t row);
  void loosen(uint32_t row);
  // From held or loose: like a loose row, but the system call it depends on is counted with another
  // row that is moved by the same call. False: it was given up.
  bool ride(uint32_t row);
  // Ends a row that is held, loose or riding. `moved`: its bytes were read or written, and not
  // found to be there already. False: it was given up before.
  bool finish(uint32_t row, const Status& status, bool moved);
  bool given_up(uint32_t row) const;
  // Gives up every row that is waiting or loose; a held one is left: ask again in a moment.
  // `stuck` counts the loose ones, whose system calls go on, before anybody hears of them.
  void expire(std::atomic<int64_t>* stuck);

 private:
  enum RowState : uint8_t { kWaiting, kHeld, kLoose, kRiding, kFinished, kGivenUp };
  bool change(uint32_t row, RowState from, RowState to);
  void report(uint32_t row, const Status& status);
  Status timeout_status(uint32_t row, bool running) const;

  const Direction direction_;
  const std::vector<BlockKey> keys_;
  std::vector<std::byte*> memory_;
  const std::vector<Digest> digests_;
  std::function<void(uint32_t row, const Status& status)> on_row_;
  const TaskPtr task_;
  const std::chrono::nanoseconds timeout_;
  const Clock::time_point deadline_;
  const int64_t started_ns_;
  const Stopwatch watch_;
  const size_t block_bytes_;
  const std::shared_ptr<StageMetrics> metrics_;
  std::unique_ptr<std::atomic<uint8_t>[]> states_;
  std::atomic<uint32_t> unfinished_;
  std::atomic<uint32_t> moved_{0};
};

using TransferPtr = std::shared_ptr<Transfer>;

// Ends transfers at their deadline, on one thread that never touches the file system and sleeps
// while nothing is under way. Transfers share one timeout, so they expire in order. Thread-safe.
class DeadlineWatch {
 public:
  // `stuck` counts system calls that outlived their transfer; it outlives the watch.
  explicit DeadlineWatch(std::atomic<int64_t>* stuck);
  ~DeadlineWatch() { close(); }

  // False: there was no thread for it.
  bool runs() const { return runs_; }
  void add(TransferPtr transfer);
  // Waits for all transfers, at most until the last deadline, then stops the thread.
  void close();

 private:
  void run();
  void drop_done();

  std::atomic<int64_t>* const stuck_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<TransferPtr> transfers_;
  bool closed_ = false;
  base::WorkerGroup thread_;  // it uses everything above
  const bool runs_;
};

}  // namespace ucm::posix
