// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "ucm/task.h"

namespace ucm {
namespace {

constexpr uint8_t kStarted = 1;
constexpr uint8_t kReleased = 2;

}  // namespace

Task::Task(uint32_t rows)
    : rows_(rows),
      row_states_(rows ? std::make_unique<RowState[]>(rows) : nullptr),
      unstarted_(rows),
      unreleased_(rows),
      unfinished_(rows),
      done_(rows == 0) {}

TaskPtr Task::finished(uint32_t rows, Status status) {
  TaskPtr task = make(rows);
  for (uint32_t row = 0; row < rows; ++row) task->finish_row(row, status);
  if (rows == 0) task->first_cause_ = std::move(status);
  return task;
}

void Task::cancel() {
  cancelled_.store(true, std::memory_order_release);
  if (cancel_hook_ && !done()) cancel_hook_();
}

Status Task::wait_started(std::chrono::nanoseconds timeout) {
  return wait_until(unstarted_, "started", timeout);
}

Status Task::wait_released(std::chrono::nanoseconds timeout) {
  return wait_until(unreleased_, "released", timeout);
}

Status Task::wait_until(const std::atomic<uint32_t>& open, const char* milestone,
                        std::chrono::nanoseconds timeout) {
  const auto reached = [&open] { return open.load(std::memory_order_acquire) == 0; };
  if (!reached()) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, reached)) {
      return make_status(Code::timeout, "task: %u of %u rows not %s in time", open.load(), rows_,
                         milestone);
    }
  }
  return status();
}

Status Task::order_stream(uintptr_t stream) {
  std::vector<Fence> fences;
  {
    const std::lock_guard lock(mutex_);
    fences = fences_;
  }
  for (const Fence& fence : fences) UCM_TRY(fence(stream));
  return {};
}

Status Task::wait(std::chrono::nanoseconds timeout) {
  if (!done()) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, timeout, [this] { return done(); })) {
      return make_status(Code::timeout, "task: %u of %u rows not done in time", unfinished_.load(),
                         rows_);
    }
  }
  return status();
}

Status Task::status() const {
  const std::lock_guard lock(mutex_);
  return first_cause_;
}

std::vector<uint32_t> Task::failed_rows() const {
  const std::lock_guard lock(mutex_);
  std::vector<uint32_t> rows = failed_rows_;
  std::sort(rows.begin(), rows.end());
  return rows;
}

void Task::on_done(DoneCallback callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!done()) {
      callback_ = std::move(callback);
      return;
    }
  }
  callback(*this);
}

void Task::start_rows(std::span<const uint32_t> rows, Fence fence) {
  {
    const std::lock_guard lock(mutex_);
    fences_.push_back(std::move(fence));
  }
  if (pass(rows, kStarted)) notify();
}

void Task::release_row(uint32_t row) {
  if (pass({&row, 1}, kStarted | kReleased)) notify();
}

bool Task::pass(std::span<const uint32_t> rows, uint8_t milestones) {
  uint32_t started = 0;
  uint32_t released = 0;
  for (const uint32_t row : rows) {
    const uint8_t before = row_states_[row].passed.fetch_or(milestones, std::memory_order_acq_rel);
    const unsigned gained = milestones & ~unsigned{before};
    started += (gained & kStarted) != 0;
    released += (gained & kReleased) != 0;
  }
  bool last = false;
  if (started) last |= unstarted_.fetch_sub(started, std::memory_order_acq_rel) == started;
  if (released) last |= unreleased_.fetch_sub(released, std::memory_order_acq_rel) == released;
  return last;
}

void Task::notify() {
  // The lock orders the notification after a waiter's check of its condition; who wakes up finds
  // it free.
  {
    const std::lock_guard lock(mutex_);
  }
  changed_.notify_all();
}

void Task::finish_row(uint32_t row, const Status& status) {
  if (!status.ok()) note_failure(row, status);
  finish_rows({&row, 1});
}

void Task::finish_rows(std::span<const uint32_t> rows) {
  if (rows.empty()) return;
  const TaskPtr alive = weak_from_this().lock();  // a waiter may drop it once it is done
  const bool passed = pass(rows, kStarted | kReleased);
  const auto count = static_cast<uint32_t>(rows.size());
  if (unfinished_.fetch_sub(count, std::memory_order_acq_rel) == count) {
    complete();
  } else if (passed) {
    notify();
  }
}

void Task::note_failure(uint32_t row, const Status& status) {
  const std::lock_guard lock(mutex_);
  if (first_cause_.ok()) first_cause_ = status;
  failed_rows_.push_back(row);
}

void Task::complete() {
  DoneCallback callback;
  {
    const std::lock_guard lock(mutex_);
    done_.store(true, std::memory_order_release);
    callback = std::move(callback_);
  }
  changed_.notify_all();
  if (callback) callback(*this);
}

}  // namespace ucm
