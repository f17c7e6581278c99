// SPDX-License-Identifier: Apache-2.0
#include "transport/device_lane.h"

#include <system_error>
#include <utility>

#include "base/worker_group.h"
#include "transport/copy_plan.h"

namespace ucm::transport {
namespace {

// One that does not run when the system has no thread left.
template <typename Body>
std::thread start_lane_thread(Body body) {
  try {
    return std::thread(std::move(body));
  } catch (const std::system_error&) {
    return {};
  }
}

}  // namespace

bool JobQueue::push(CopyJob job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    jobs_.push_back(std::move(job));
  }
  ready_.notify_one();
  return true;
}

std::optional<CopyJob> JobQueue::pop() {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [this] { return closed_ || !jobs_.empty(); });
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

Status CopyEnd::order(uintptr_t stream) {
  const std::lock_guard lock(mutex_);
  return event_ ? device_->wait_engine(stream, event_) : Status();
}

EventHandle CopyEnd::pass() {
  const std::lock_guard lock(mutex_);
  device_.reset();
  return std::exchange(event_, nullptr);
}

DeviceLane::DeviceLane(std::shared_ptr<Device> device, Direction direction, JobQueue* queue)
    : device_(std::move(device)),
      direction_(direction),
      queue_(queue),
      feeder_(start_lane_thread([this] { feed(); })) {}

void DeviceLane::feed() {
  base::name_this_thread(direction_ == Direction::load ? "ucm-load" : "ucm-dump");
  Status opened = open();
  if (opened.ok()) {
    reaper_ = start_lane_thread([this] { reap(); });
    if (!reaper_.joinable()) {
      opened = make_status(Code::unavailable, "transport: no thread left; raise ulimit -u");
    }
  }
  while (std::optional<CopyJob> job = queue_->pop()) {
    if (opened.ok()) {
      start(std::move(*job));
    } else {
      job->done(opened);
    }
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
  const EventHandle event = take_event();
  if (job.skip && job.skip()) {
    give_event(event);
    job.done(make_status(Code::cancelled, "transport: cancelled before the copy started"));
    return;
  }
  join_adjacent(&job.pieces);
  if (Status status = enqueue(job, event); !status.ok()) {
    give_event(event);
    job.done(status);
    return;
  }
  const auto end = std::make_shared<CopyEnd>(device_, event);
  if (job.started) job.started([end](uintptr_t stream) { return end->order(stream); });
  {
    const std::lock_guard lock(mutex_);
    flying_.push_back({std::move(job.done), event, end});
  }
  changed_.notify_all();
}

Status DeviceLane::enqueue(const CopyJob& job, EventHandle event) {
  const std::lock_guard lock(stream_mutex_);
  Status status = device_->wait_event(stream_, job.event);
  if (status.ok()) status = device_->copy(stream_, direction_, job.pieces);
  if (status.ok()) status = device_->record(event, stream_);
  // Part of the job may be in flight on memory that somebody will reuse.
  if (!status.ok()) (void)device_->synchronize(stream_);
  return status;
}

EventHandle DeviceLane::take_event() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !idle_events_.empty(); });
  const EventHandle event = idle_events_.back();
  idle_events_.pop_back();
  return event;
}

void DeviceLane::give_event(EventHandle event) {
  {
    const std::lock_guard lock(mutex_);
    idle_events_.push_back(event);
  }
  changed_.notify_all();
}

void DeviceLane::close() {
  {
    const std::lock_guard lock(mutex_);
    fed_ = true;
  }
  changed_.notify_all();
  if (reaper_.joinable()) reaper_.join();
  for (const EventHandle event : idle_events_) device_->destroy_event(event);
  if (stream_) device_->destroy_stream(stream_);
}

void DeviceLane::reap() {
  base::name_this_thread(direction_ == Direction::load ? "ucm-loaded" : "ucm-dumped");
  // A device that does not let itself be bound says so again in `wait_host`.
  (void)device_->bind_thread();
  for (;;) {
    Flight flight;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return fed_ || !flying_.empty(); });
      if (flying_.empty()) return;
      flight = std::move(flying_.front());
      flying_.pop_front();
    }
    finish(std::move(flight));
  }
}

void DeviceLane::finish(Flight flight) {
  Status status = device_->wait_host(flight.event);
  if (!status.ok()) {
    const std::lock_guard lock(stream_mutex_);
    (void)device_->synchronize(stream_);
  }
  give_event(flight.end->pass());
  flight.done(status);
}

}  // namespace ucm::transport
