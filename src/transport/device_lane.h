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
#include "ucm/task.h"

namespace ucm::transport {

// Copies of one task and one direction, and whom to tell.
struct CopyJob {
  std::vector<CopyPiece> pieces;
  uintptr_t event = 0;   // of an engine; the copies start after it, 0: at once
  bool on_host = false;  // both sides are host memory
  // Asked when the job starts: true ends it as `cancelled` with no byte moved.
  std::function<bool()> skip;
  // Called before `done` when the copies are on a stream of a device. Optional; never called for
  // copies of the processor.
  std::function<void(Task::Fence fence)> started;
  std::function<void(const Status& status)> done;
  // Jobs of the processor only: the digest of every row in the same pass, see `copy_digest_128`.
  // Null: no digests.
  std::shared_ptr<std::vector<Digest>> digests;
};

// What the lanes of one direction take their jobs from. Thread-safe.
class JobQueue {
 public:
  // False when closed: nothing was taken.
  bool push(CopyJob job);
  // Sleeps until there is a job; nothing when the queue is closed and empty.
  std::optional<CopyJob> pop();
  // What is queued still goes out.
  void close();

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<CopyJob> jobs_;
  bool closed_ = false;
};

// Where the copies of a job end on their stream. Thread-safe; outlives the lane.
class CopyEnd {
 public:
  CopyEnd(std::shared_ptr<Device> device, EventHandle event)
      : device_(std::move(device)), event_(event) {}
  // Later work on an engine's stream waits for the copies, if they are still under way.
  Status order(uintptr_t stream);
  // The copies are complete and the event belongs to others now.
  EventHandle pass();

 private:
  std::mutex mutex_;
  std::shared_ptr<Device> device_;  // given back with the event: tasks live long
  EventHandle event_;
};

// One stream of an asynchronous device and two threads: one enqueues jobs as they come, so that an
// engine's stream can soon wait for them; one sleeps in the oldest job's event and calls `done`,
// after the last byte of the job. Ends when the queue is closed and empty.
class DeviceLane {
 public:
  DeviceLane(std::shared_ptr<Device> device, Direction direction, JobQueue* queue);
  ~DeviceLane() {
    if (feeder_.joinable()) feeder_.join();
  }
  // False: there was no thread for it.
  bool runs() const { return feeder_.joinable(); }

 private:
  // Jobs on the stream at once.
  static constexpr size_t kDepth = 8;
  struct Flight {
    std::function<void(const Status& status)> done;
    EventHandle event = nullptr;
    std::shared_ptr<CopyEnd> end;
  };

  void feed();
  Status open();
  void start(CopyJob job);
  Status enqueue(const CopyJob& job, EventHandle event);
  EventHandle take_event();
  void give_event(EventHandle event);
  void close();
  void reap();
  void finish(Flight flight);

  const std::shared_ptr<Device> device_;
  const Direction direction_;
  JobQueue* const queue_;
  StreamHandle stream_ = nullptr;
  std::mutex stream_mutex_;  // the stream is used by one thread at a time
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<EventHandle> idle_events_;
  std::deque<Flight> flying_;
  bool fed_ = false;  // no job will fly any more
  std::thread reaper_;
  std::thread feeder_;
};

}  // namespace ucm::transport
