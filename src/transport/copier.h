// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "base/worker_group.h"
#include "transport/device_lane.h"
#include "ucm/device.h"

namespace ucm::transport {

// Moves pieces between host slots and device memory. Host memory is copied by a few threads, loads
// before dumps. A device gets two streams per direction, each fed by a thread of its own that
// sleeps until its oldest job is complete. `done` is called on those threads and must be quick.
class Copier {
 public:
  using Done = std::function<void(const Status& status)>;

  // `threads` copy on the host; a device needs none of them.
  Copier(std::shared_ptr<Device> device, unsigned threads);
  ~Copier() { close(); }

  // The copies start after `event` (0: at once). `skip` is asked when the job starts: true ends it
  // as `cancelled` with no byte moved. False when the copier is closed: nothing was taken.
  bool submit(Direction direction, std::vector<CopyPiece> pieces, uintptr_t event,
              std::function<bool()> skip, Done done);
  // A job of about this many bytes keeps all threads busy without drowning them in hand-overs.
  size_t job_bytes() const { return job_bytes_; }
  // Ends when everything that was submitted is done.
  void close();

 private:
  void copy_on_host(Direction direction, CopyJob* job);

  const std::shared_ptr<Device> device_;
  const size_t job_bytes_;
  JobQueue loads_;
  JobQueue dumps_;
  std::vector<std::unique_ptr<DeviceLane>> lanes_;
  std::unique_ptr<base::WorkerGroup> workers_;
};

}  // namespace ucm::transport
