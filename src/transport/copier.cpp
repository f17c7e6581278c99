// SPDX-License-Identifier: Apache-2.0
#include "transport/copier.h"

#include <algorithm>
#include <cstring>

#include "base/digest_copy.h"
#include "transport/copy_plan.h"

namespace ucm::transport {
namespace {

constexpr size_t kLeastHostJobBytes = size_t{512} << 10;
constexpr size_t kHostJobBytes = size_t{4} << 20;
constexpr size_t kDeviceJobBytes = size_t{32} << 20;
constexpr unsigned kLanesPerDirection = 2;
// Jobs for each thread, so that none of them has nothing to do long before the others.
constexpr size_t kTurns = 2;
// While one part of a pool is copied, others are written or read below.
constexpr size_t kPartsOfPool = 8;

}  // namespace

Copier::Copier(std::shared_ptr<Device> device, unsigned threads)
    : device_(std::move(device)), threads_(threads) {
  for (unsigned i = 0; device_->asynchronous() && i < kLanesPerDirection; ++i) {
    lanes_.push_back(std::make_unique<DeviceLane>(device_, Direction::load, &loads_));
    lanes_.push_back(std::make_unique<DeviceLane>(device_, Direction::dump, &dumps_));
  }
}

Status Copier::check() {
  base::WorkerGroup* group = device_->asynchronous() ? nullptr : workers();
  const bool runs =
      std::all_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->runs(); });
  if (runs && (device_->asynchronous() || (group && group->ready()))) return {};
  return make_status(Code::unavailable, "transport: no thread left to copy with; raise ulimit -u");
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

bool Copier::run(base::WorkerGroup::Job job) {
  base::WorkerGroup* group = workers();
  return group && group->submit(base::Lane::urgent, std::move(job));
}

size_t Copier::job_bytes(size_t total, size_t pool_bytes) const {
  if (device_->asynchronous()) return kDeviceJobBytes;
  const size_t share = std::min(total / (kTurns * threads_), pool_bytes / kPartsOfPool);
  return std::clamp(share, kLeastHostJobBytes, kHostJobBytes);
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
  Status status;
  if (!device_->asynchronous()) status = device_->wait_event(nullptr, job->event);
  if (status.ok() && job->digests) {
    base::copy_digest_128(job->pieces, *job->digests);
  } else if (status.ok()) {
    join_adjacent(&job->pieces);
    status = move(direction, job->pieces);
  }
  job->done(status);
}

Status Copier::move(Direction direction, std::span<const CopyPiece> pieces) {
  if (!device_->asynchronous()) return device_->copy(nullptr, direction, pieces);
  for (const CopyPiece& piece : pieces) std::memcpy(piece.dst, piece.src, piece.bytes);
  return {};
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
