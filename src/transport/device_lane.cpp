// SPDX-License-Identifier: Apache-2.0
#include "transport/device_lane.h"

#include "base/worker_group.h"
#include "transport/copy_plan.h"

namespace ucm::transport {

bool JobQueue::push(CopyJob job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    jobs_.push_back(std::move(job));
  }
  ready_.notify_one();
  return true;
}

std::optional<CopyJob> JobQueue::pop(bool wait) {
  std::unique_lock lock(mutex_);
  if (wait) {
    ready_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
  }
  if (jobs_.empty()) return std::nullopt;
  CopyJob job = std::move(jobs_.front());
  jobs_.pop_front();
  return job;
}

void JobQueue::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  ready_.notify_all();
}

DeviceLane::DeviceLane(std::shared_ptr<Device> device, Direction direction, JobQueue* queue)
    : device_(std::move(device)),
      direction_(direction),
      queue_(queue),
      thread_([this] { run(); }) {}

void DeviceLane::run() {
  base::name_this_thread(direction_ == Direction::load ? "ucm-load" : "ucm-dump");
  const Status opened = open();
  for (;;) {
    std::optional<CopyJob> job = queue_->pop(/*wait=*/flying_.empty());
    if (job && !opened.ok()) {
      job->done(opened);
    } else if (job) {
      start(std::move(*job));
    } else if (flying_.empty()) {
      break;
    }
    if (!flying_.empty() && (!job || flying_.size() >= kDepth)) finish_oldest();
  }
  close();
}

Status DeviceLane::open() {
  UCM_TRY(device_->bind_thread());
  UCM_TRY_ASSIGN(stream_, device_->make_stream(direction_));
  for (size_t i = 0; i < kDepth; ++i) {
    UCM_TRY_ASSIGN(const EventHandle event, device_->make_event());
    idle_events_.push_back(event);
  }
  return {};
}

void DeviceLane::start(CopyJob job) {
  if (job.skip && job.skip()) {
    job.done(make_status(Code::cancelled, "transport: cancelled before the copy started"));
    return;
  }
  join_adjacent(&job.pieces);
  const EventHandle event = idle_events_.back();
  if (Status status = enqueue(job, event); !status.ok()) {
    // Part of the job may be in flight on memory that somebody will reuse.
    (void)device_->synchronize(stream_);
    job.done(status);
    return;
  }
  idle_events_.pop_back();
  flying_.push_back({std::move(job.done), event});
}

Status DeviceLane::enqueue(const CopyJob& job, EventHandle event) {
  UCM_TRY(device_->wait_event(stream_, job.event));
  UCM_TRY(device_->copy(stream_, direction_, job.pieces));
  return device_->record(event, stream_);
}

void DeviceLane::finish_oldest() {
  Flight flight = std::move(flying_.front());
  flying_.pop_front();
  Status status = device_->wait_host(flight.event);
  if (!status.ok()) (void)device_->synchronize(stream_);
  idle_events_.push_back(flight.event);
  flight.done(status);
}

void DeviceLane::close() {
  for (const EventHandle event : idle_events_) device_->destroy_event(event);
  if (stream_) device_->destroy_stream(stream_);
}

}  // namespace ucm::transport
