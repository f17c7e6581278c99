// SPDX-License-Identifier: Apache-2.0
#include "transport/copier.h"

#include <string_view>

#include "transport/copy_plan.h"
#include "ucm/log.h"

namespace ucm::transport {
namespace {

constexpr size_t kHostJobBytes = size_t{4} << 20;
constexpr size_t kDeviceJobBytes = size_t{32} << 20;

// The copier a worker thread belongs to is fixed for its life, so its streams can be found here.
thread_local void* t_streams = nullptr;

}  // namespace

Copier::Copier(std::shared_ptr<Device> device, unsigned threads)
    : device_(std::move(device)),
      job_bytes_(std::string_view(device_->platform()) == "cpu" ? kHostJobBytes : kDeviceJobBytes),
      workers_("ucm-copy", threads) {}

bool Copier::submit(Direction direction, std::vector<CopyPiece> pieces, uintptr_t event,
                    std::function<bool()> skip, Done done) {
  const base::Lane lane = direction == Direction::load ? base::Lane::urgent : base::Lane::normal;
  return workers_.submit(lane, [this, direction, pieces = std::move(pieces), event,
                                skip = std::move(skip), done = std::move(done)]() mutable {
    if (skip && skip()) {
      done(make_status(Code::cancelled, "transport: cancelled before the copy started"));
      return;
    }
    done(copy(direction, &pieces, event));
  });
}

Status Copier::copy(Direction direction, std::vector<CopyPiece>* pieces, uintptr_t event) {
  Status status;
  Streams* streams = thread_streams(&status);
  if (!streams) return status;
  StreamHandle stream = direction == Direction::load ? streams->load : streams->dump;
  join_adjacent(pieces);
  UCM_TRY(device_->wait_event(stream, event));
  Status enqueued = device_->copy(stream, direction, *pieces);
  // Even after a failure part of the work may be in flight on memory somebody will reuse.
  Status finished = device_->synchronize(stream);
  return enqueued.ok() ? finished : enqueued;
}

Copier::Streams* Copier::thread_streams(Status* status) {
  if (t_streams) return static_cast<Streams*>(t_streams);
  auto streams = std::make_unique<Streams>();
  *status = open_streams(streams.get());
  if (!status->ok()) return nullptr;
  const std::lock_guard lock(mutex_);
  t_streams = streams.get();
  return streams_.emplace_back(std::move(streams)).get();
}

Status Copier::open_streams(Streams* streams) {
  UCM_TRY(device_->bind_thread());
  UCM_TRY_ASSIGN(streams->load, device_->make_stream());
  UCM_TRY_ASSIGN(streams->dump, device_->make_stream());
  return {};
}

void Copier::close() {
  workers_.close();
  const std::lock_guard lock(mutex_);
  for (const auto& streams : streams_) {
    device_->destroy_stream(streams->load);
    device_->destroy_stream(streams->dump);
  }
  streams_.clear();
}

}  // namespace ucm::transport
