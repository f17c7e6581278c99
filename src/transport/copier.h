// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/worker_group.h"
#include "transport/device_lane.h"
#include "ucm/device.h"

namespace ucm::transport {

// Moves pieces between host slots and device memory. Host memory is copied by a few threads, loads
// before dumps. A device gets two streams per direction, each fed by a thread of its own that
// sleeps until its oldest job is complete. A job's `done` is called on those threads and must be
// quick.
class Copier {
 public:
  // `threads` copy host memory; on a device they start with the first job that needs them.
  Copier(std::shared_ptr<Device> device, unsigned threads);
  ~Copier() { close(); }
  // `unavailable` when the system has no thread left to copy with.
  Status check();

  // False when the copier is closed or has no thread: nothing was taken.
  bool submit(Direction direction, CopyJob job);
  // Runs `job` on a thread that copies host memory, before dumps. False as for `submit`.
  bool run(base::WorkerGroup::Job job);
  // Copies on the calling thread; only where the processor does the copies.
  void copy_here(Direction direction, CopyJob job) { copy_on_host(direction, &job); }
  // Whether the processor does the copies, so that a job can ask for digests.
  bool can_digest(bool on_host) const { return on_host || !device_->asynchronous(); }
  // Jobs of about this many bytes keep all threads busy without drowning them in hand-overs, when
  // `total` bytes are to be copied now and the pool they go through has `pool_bytes`.
  size_t job_bytes(size_t total, size_t pool_bytes) const;
  // Ends when everything that was submitted is done.
  void close();

 private:
  base::WorkerGroup* workers();
  void copy_on_host(Direction direction, CopyJob* job);
  Status move(Direction direction, std::span<const CopyPiece> pieces);

  const std::shared_ptr<Device> device_;
  const unsigned threads_;
  JobQueue loads_;
  JobQueue dumps_;
  std::vector<std::unique_ptr<DeviceLane>> lanes_;
  std::mutex mutex_;
  bool closed_ = false;
  std::unique_ptr<base::WorkerGroup> workers_;
};

}  // namespace ucm::transport
