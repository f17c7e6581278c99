// SPDX-License-Identifier: Apache-2.0
#include "transport/copier.h"

#include <cstring>

#include "transport/copy_plan.h"

namespace ucm::transport {
namespace {

constexpr size_t kHostJobBytes = size_t{4} << 20;
constexpr size_t kDeviceJobBytes = size_t{32} << 20;
constexpr unsigned kLanesPerDirection = 2;

}  // namespace

Copier::Copier(std::shared_ptr<Device> device, unsigned threads)
    : device_(std::move(device)),
      threads_(threads),
      job_bytes_(device_->asynchronous() ? kDeviceJobBytes : kHostJobBytes) {
  for (unsigned i = 0; device_->asynchronous() && i < kLanesPerDirection; ++i) {
    lanes_.push_back(std::make_unique<DeviceLane>(device_, Direction::load, &loads_));
    lanes_.push_back(std::make_unique<DeviceLane>(device_, Direction::dump, &dumps_));
  }
}

bool Copier::submit(Direction direction, CopyJob job) {
  if (device_->asynchronous() && !job.on_host) {
    return (direction == Direction::load ? loads_ : dumps_).push(std::move(job));
  }
  base::WorkerGroup* group = workers();
  if (!group) return false;
  const base::Lane lane = direction == Direction::load ? base::Lane::urgent : base::Lane::normal;
  return group->submit(
      lane, [this, direction, job = std::move(job)]() mutable { copy_on_host(direction, &job); });
}

base::WorkerGroup* Copier::workers() {
  const std::lock_guard lock(mutex_);
  if (!workers_ && !closed_) workers_ = std::make_unique<base::WorkerGroup>("ucm-copy", threads_);
  return workers_.get();
}

void Copier::copy_on_host(Direction direction, CopyJob* job) {
  if (job->skip && job->skip()) {
    job->done(make_status(Code::cancelled, "transport: cancelled before the copy started"));
    return;
  }
  join_adjacent(&job->pieces);
  if (device_->asynchronous()) {
    for (const CopyPiece& piece : job->pieces) std::memcpy(piece.dst, piece.src, piece.bytes);
    job->done({});
    return;
  }
  Status status = device_->wait_event(nullptr, job->event);
  if (status.ok()) status = device_->copy(nullptr, direction, job->pieces);
  job->done(status);
}

void Copier::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  if (workers_) workers_->close();
  loads_.close();
  dumps_.close();
  lanes_.clear();
}

}  // namespace ucm::transport
