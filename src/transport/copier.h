// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/worker_group.h"
#include "ucm/device.h"
#include "ucm/digest.h"

namespace ucm::transport {

// Moves pieces between host slots and device memory on a few threads, each with one stream per
// direction, loads before dumps. A thread sleeps in the device's `synchronize` until its job is
// complete and then calls `done`, which must be quick.
class Copier {
 public:
  using Done = std::function<void(const Status& status)>;

  Copier(std::shared_ptr<Device> device, unsigned threads);
  ~Copier() { close(); }

  // The copies start after `event` (0: at once). `skip` is asked when the job starts: true ends it
  // as `cancelled` with no byte moved. False when the copier is closed: nothing was taken.
  bool submit(Direction direction, std::vector<CopyPiece> pieces, uintptr_t event,
              std::function<bool()> skip, Done done);
  // The same for dumps into host memory, and the digest of every row in the same pass: a row is
  // `row_pieces` pieces one behind the other, `digests` holds the seeds (in `low`) and gets the
  // digests before `done` is called.
  bool submit_digested(std::vector<CopyPiece> pieces, size_t row_pieces,
                       std::shared_ptr<std::vector<Digest>> digests, uintptr_t event,
                       std::function<bool()> skip, Done done);
  // Whether `submit_digested` can be used: the processor does the copies.
  bool can_digest() const { return on_host_; }
  // A job of about this many bytes keeps all threads busy without drowning them in hand-overs.
  size_t job_bytes() const { return job_bytes_; }
  void close();

 private:
  struct Streams {
    StreamHandle load = nullptr;
    StreamHandle dump = nullptr;
  };
  Status open_streams(Streams* streams);
  Status copy(Direction direction, std::vector<CopyPiece>* pieces, uintptr_t event);
  Status copy_digested(std::span<const CopyPiece> pieces, size_t row_pieces, uintptr_t event,
                       std::vector<Digest>* digests);
  Streams* thread_streams(Status* status);

  const std::shared_ptr<Device> device_;
  const bool on_host_;
  const size_t job_bytes_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Streams>> streams_;
  base::WorkerGroup workers_;
};

}  // namespace ucm::transport
