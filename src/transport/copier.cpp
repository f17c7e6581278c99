// SPDX-License-Identifier: Apache-2.0
#include "transport/copier.h"

#include <algorithm>
#include <string_view>

#include "base/digest_stream.h"
#include "transport/copy_plan.h"
#include "ucm/log.h"

namespace ucm::transport {
namespace {

constexpr size_t kHostJobBytes = size_t{4} << 20;
constexpr size_t kDeviceJobBytes = size_t{32} << 20;
// What is digested and then copied while it is still in the processor's first caches.
constexpr size_t kDigestStep = size_t{64} << 10;

// The copier a worker thread belongs to is fixed for its life, so its streams can be found here.
thread_local void* t_streams = nullptr;

}  // namespace

Copier::Copier(std::shared_ptr<Device> device, unsigned threads)
    : device_(std::move(device)),
      on_host_(std::string_view(device_->platform()) == "cpu"),
      job_bytes_(on_host_ ? kHostJobBytes : kDeviceJobBytes),
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

bool Copier::submit_digested(std::vector<CopyPiece> pieces, size_t row_pieces,
                             std::shared_ptr<std::vector<Digest>> digests, uintptr_t event,
                             std::function<bool()> skip, Done done) {
  return workers_.submit(base::Lane::normal, [this, pieces = std::move(pieces), row_pieces,
                                              digests = std::move(digests), event,
                                              skip = std::move(skip), done = std::move(done)] {
    if (skip && skip()) {
      done(make_status(Code::cancelled, "transport: cancelled before the copy started"));
      return;
    }
    done(copy_digested(pieces, row_pieces, event, digests.get()));
  });
}

Status Copier::copy_digested(std::span<const CopyPiece> pieces, size_t row_pieces, uintptr_t event,
                             std::vector<Digest>* digests) {
  Status status;
  Streams* streams = thread_streams(&status);
  if (!streams) return status;
  UCM_TRY(device_->wait_event(streams->dump, event));
  for (size_t row = 0; row < digests->size(); ++row) {
    base::DigestStream digest((*digests)[row].low);
    for (const CopyPiece& piece : pieces.subspan(row * row_pieces, row_pieces)) {
      for (size_t at = 0; at < piece.bytes; at += kDigestStep) {
        const CopyPiece step = {static_cast<std::byte*>(piece.dst) + at,
                                static_cast<const std::byte*>(piece.src) + at,
                                std::min(kDigestStep, piece.bytes - at)};
        UCM_TRY(device_->copy(streams->dump, Direction::dump, {&step, 1}));
        // Of the bytes that were copied, whatever the caller does to its own meanwhile.
        digest.add(step.dst, step.bytes);
      }
    }
    (*digests)[row] = digest.digest();
  }
  return device_->synchronize(streams->dump);
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
