// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_transfer.h"

#include "stages/posix/posix_calls.h"

namespace ucm::posix {
namespace {

// How soon a row that was held at its deadline is looked at again.
constexpr std::chrono::milliseconds kHeldRow{10};

}  // namespace

Transfer::Transfer(Direction direction, const Batch& batch, std::chrono::nanoseconds timeout,
                   size_t block_bytes, std::shared_ptr<StageMetrics> metrics)
    : direction_(direction),
      keys_(batch.keys.begin(), batch.keys.end()),
      digests_(batch.digests.begin(), batch.digests.end()),
      on_row_(batch.on_row),
      task_(Task::make(static_cast<uint32_t>(batch.rows()))),
      timeout_(timeout),
      deadline_(Clock::now() + timeout),
      started_ns_(unix_now_ns()),
      block_bytes_(block_bytes),
      metrics_(std::move(metrics)),
      states_(std::make_unique<std::atomic<uint8_t>[]>(batch.rows())),
      unfinished_(static_cast<uint32_t>(batch.rows())) {
  memory_.reserve(batch.rows());
  for (const uintptr_t address : batch.addresses) {
    memory_.push_back(reinterpret_cast<std::byte*>(address));
  }
}

bool Transfer::change(uint32_t row, RowState from, RowState to) {
  uint8_t expected = from;
  return states_[row].compare_exchange_strong(expected, to, std::memory_order_acq_rel);
}

bool Transfer::start(uint32_t row) {
  if (!change(row, kWaiting, kHeld)) return false;
  if (!task_->cancelled()) return true;
  finish(
      row,
      make_status(Code::cancelled, "block %s: the task was cancelled", keys_[row].prefix().c_str()),
      false);
  return false;
}

bool Transfer::hold(uint32_t row) {
  return change(row, kLoose, kHeld) || change(row, kRiding, kHeld);
}

void Transfer::loosen(uint32_t row) { change(row, kHeld, kLoose); }

bool Transfer::ride(uint32_t row) {
  return change(row, kHeld, kRiding) || change(row, kLoose, kRiding);
}

bool Transfer::finish(uint32_t row, const Status& status, bool moved) {
  if (!change(row, kHeld, kFinished) && !change(row, kLoose, kFinished) &&
      !change(row, kRiding, kFinished)) {
    return false;
  }
  if (moved && status.ok()) moved_.fetch_add(1, std::memory_order_relaxed);
  report(row, status);
  return true;
}

bool Transfer::given_up(uint32_t row) const {
  return states_[row].load(std::memory_order_acquire) == kGivenUp;
}

void Transfer::expire(std::atomic<int64_t>* stuck) {
  for (uint32_t row = 0; row < rows(); ++row) {
    if (change(row, kWaiting, kGivenUp)) {
      report(row, timeout_status(row, false));
    } else if (change(row, kRiding, kGivenUp)) {
      report(row, timeout_status(row, true));
    } else if (change(row, kLoose, kGivenUp)) {
      stuck->fetch_add(1);
      report(row, timeout_status(row, true));
    }
  }
}

Status Transfer::timeout_status(uint32_t row, bool running) const {
  const double limit = std::chrono::duration<double>(timeout_).count();
  return make_status(Code::timeout, "block %s: %s after timeout_s = %g",
                     keys_[row].prefix().c_str(),
                     running ? "the storage does not answer" : "still waiting for its turn", limit);
}

void Transfer::report(uint32_t row, const Status& status) {
  if (!status.ok()) metrics_->failed(status);
  if (on_row_) on_row_(row, status);
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    // What the callback keeps alive is free, and the figures are complete, before the task is done.
    on_row_ = nullptr;
    const size_t moved = moved_.load(std::memory_order_relaxed);
    if (moved > 0) metrics_->transferred(direction_, moved, moved * block_bytes_, watch_.seconds());
  }
  task_->finish_row(row, status);
}

DeadlineWatch::DeadlineWatch(std::atomic<int64_t>* stuck)
    : stuck_(stuck),
      thread_("ucm-posix-time", 1),
      runs_(thread_.submit(base::Lane::normal, [this] { run(); })) {}

void DeadlineWatch::add(TransferPtr transfer) {
  {
    const std::lock_guard lock(mutex_);
    drop_done();
    transfers_.push_back(std::move(transfer));
    if (transfers_.size() > 1) return;
  }
  changed_.notify_one();
}

void DeadlineWatch::drop_done() {
  while (!transfers_.empty() && transfers_.front()->done()) transfers_.pop_front();
}

void DeadlineWatch::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    drop_done();
    if (transfers_.empty()) {
      if (closed_) return;
      changed_.wait(lock);
      continue;
    }
    const TransferPtr transfer = transfers_.front();
    const Transfer::Clock::time_point now = Transfer::Clock::now();
    if (now < transfer->deadline() && !closed_) {
      changed_.wait_until(lock, transfer->deadline());
      continue;
    }
    lock.unlock();
    if (now < transfer->deadline()) {
      // While closing, a transfer that ends early is not waited for until its deadline.
      (void)transfer->task()->wait(transfer->deadline() - now);
    } else {
      transfer->expire(stuck_);
    }
    lock.lock();
    // A row held at its deadline is in the middle of a short copy.
    if (!transfer->done() && now >= transfer->deadline()) changed_.wait_for(lock, kHeldRow);
  }
}

void DeadlineWatch::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
  thread_.close();
}

}  // namespace ucm::posix
