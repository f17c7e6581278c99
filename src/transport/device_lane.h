// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "ucm/device.h"
#include "ucm/key.h"

namespace ucm::transport {

// Copies of one task and one direction, and whom to tell.
struct CopyJob {
  std::vector<CopyPiece> pieces;
  uintptr_t event = 0;   // of an engine; the copies start after it, 0: at once
  bool on_host = false;  // both sides are host memory
  // Asked when the job starts: true ends it as `cancelled` with no byte moved.
  std::function<bool()> skip;
  std::function<void(const Status& status)> done;
  // Jobs of the processor only: the digest of every row in the same pass. A row is `row_pieces`
  // pieces one behind the other; `digests` holds the seeds (in `low`) and has the digests when
  // `done` is called. Null: no digests.
  size_t row_pieces = 0;
  std::shared_ptr<std::vector<Digest>> digests;
};

// What the lanes of one direction take their jobs from. Thread-safe.
class JobQueue {
 public:
  // False when closed: nothing was taken.
  bool push(CopyJob job);
  // The next job; nothing when there is none. `wait` sleeps until there is one or the queue is
  // closed.
  std::optional<CopyJob> pop(bool wait);
  // What is queued still goes out.
  void close();

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<CopyJob> jobs_;
  bool closed_ = false;
};

// One thread that feeds one stream of an asynchronous device. It enqueues the next job while the
// one before is still copied, and sleeps in the oldest job's event otherwise; `done` is called on
// this thread, after the last byte of the job. Ends when the queue is closed and empty.
class DeviceLane {
 public:
  DeviceLane(std::shared_ptr<Device> device, Direction direction, JobQueue* queue);
  ~DeviceLane() { thread_.join(); }

 private:
  static constexpr size_t kDepth = 2;
  struct Flight {
    std::function<void(const Status& status)> done;
    EventHandle event = nullptr;
  };

  void run();
  Status open();
  void start(CopyJob job);
  Status enqueue(const CopyJob& job, EventHandle event);
  void finish_oldest();
  void close();

  const std::shared_ptr<Device> device_;
  const Direction direction_;
  JobQueue* const queue_;
  StreamHandle stream_ = nullptr;
  std::vector<EventHandle> idle_events_;
  std::deque<Flight> flying_;
  std::thread thread_;
};

}  // namespace ucm::transport
