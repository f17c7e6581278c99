// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>

#include "io/engine.h"
#include "io/faults.h"
#include "io/recorder.h"
#include "ucm/layout.h"

namespace ucm::io {

// A request on its way through an engine: what is moved already and what the next call moves.
// Both engines share these rules, so that they treat short and interrupted calls alike.
struct RequestRun {
  explicit RequestRun(Request r) : request(std::move(r)) {}

  Request request;
  size_t moved = 0;
  unsigned retries = 0;

  std::byte* next_buffer() const { return static_cast<std::byte*>(request.buffer) + moved; }
  uint64_t next_offset() const { return request.offset + moved; }
  // One call moves 1 GiB at most: the kernel counts in 32 bits.
  size_t next_bytes(bool cut) const {
    const size_t left = std::min<size_t>(request.bytes - moved, size_t{1} << 30);
    if (!cut || left <= kAlign) return left;
    return std::max<size_t>(left / 2 / kAlign * kAlign, kAlign);
  }
  bool cancelled() const { return request.task && request.task->cancelled(); }
  // What the fault layer does to the next call; the recording hears of a write.
  FaultEffect next_fault() const {
    const FaultEffect effect =
        fault(request.write ? Operation::write : Operation::read, request.file->path());
    if (effect.recorded && request.write && effect.error == 0) {
      const iovec part = {next_buffer(), next_bytes(effect.cut)};
      recorder::writes(request.file->fd(), next_offset(), {&part, 1});
    }
    return effect;
  }

  // Takes in the answer of one call (bytes, or minus an errno). True when the request is over and
  // `result` says how; false when the rest has to be tried again.
  bool advance(int64_t answer, Transferred* result) {
    if (answer < 0) {
      const int error = static_cast<int>(-answer);
      if ((error == EINTR || error == EAGAIN) && ++retries <= kMaxRetries) return false;
      *result = {moved, error};
      return true;
    }
    const size_t got = static_cast<size_t>(answer);
    size_t next = moved + got;
    if (next >= request.bytes || got == 0) {
      *result = {std::min(next, request.bytes), 0};
      return true;
    }
    if (request.file->direct()) {
      // Direct calls can only go on from a block border; a piece smaller than that is the file end.
      next = next / kAlign * kAlign;
      if (next <= moved) {
        *result = {moved + got, 0};
        return true;
      }
    }
    moved = next;
    return false;
  }

  void finish(const Transferred& result) {
    if (request.done) request.done(result);
  }

  static constexpr unsigned kMaxRetries = 1000;
};

using RunPtr = std::unique_ptr<RequestRun>;

// The two queues of an engine and its count of what is not over. `mutex` guards all of it.
struct RequestQueues {
  std::mutex mutex;
  std::condition_variable idle;
  std::deque<RunPtr> reads;
  std::deque<RunPtr> writes;
  size_t outstanding = 0;
  uint64_t turns = 0;  // of engines that take requests one by one
  bool closed = false;

  // False when the engine takes nothing any more.
  bool push(Request&& request) {
    if (closed) return false;
    ++outstanding;
    std::deque<RunPtr>& queue = request.write ? writes : reads;
    queue.push_back(std::make_unique<RequestRun>(std::move(request)));
    return true;
  }
  RunPtr pop(std::deque<RunPtr>* queue) {
    RunPtr run = std::move(queue->front());
    queue->pop_front();
    return run;
  }
  // Call without the lock, after the request's `done`.
  void ended(size_t count = 1) {
    const std::lock_guard lock(mutex);
    outstanding -= count;
    if (outstanding == 0) idle.notify_all();
  }
  // Waits until nothing is outstanding; false after `timeout`.
  bool drain(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex);
    return idle.wait_for(lock, timeout, [this] { return outstanding == 0; });
  }
  // Ends everything that has not started as cancelled.
  void cancel_queued() {
    std::deque<RunPtr> all;
    {
      const std::lock_guard lock(mutex);
      all.swap(reads);
      while (!writes.empty()) all.push_back(pop(&writes));
    }
    for (RunPtr& run : all) run->finish({0, ECANCELED});
    if (!all.empty()) ended(all.size());
  }
};

}  // namespace ucm::io
