// SPDX-License-Identifier: Apache-2.0
#include "pages/row_transfer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "io/direct.h"
#include "ucm/layout.h"

namespace ucm::pages {
namespace {

bool wants_check(Verify verify, const BlockKey& key) {
  return verify == Verify::always || (verify == Verify::sample && mix(key) % 64 == 0);
}

}  // namespace

Status RowTransfer::prepare(Segments* segments, bool write) {
  UCM_TRY_ASSIGN(place, segments->locate(entry.slot));
  const size_t padded = align_up(row.bytes);
  const bool aligned = reinterpret_cast<uintptr_t>(row.data) % kAlign == 0;
  if (!place.file->direct() || (aligned && row.room >= padded)) return {};
  bounce = io::AlignedBuffer::make(row.bytes);
  if (!bounce) {
    return make_status(Code::out_of_memory, "no %zu bytes for an aligned buffer", padded);
  }
  if (write) {
    std::memcpy(bounce.data(), row.data, row.bytes);
    std::memset(bounce.data() + row.bytes, 0, bounce.bytes() - row.bytes);
  }
  return {};
}

io::Request RowTransfer::request(bool write) {
  io::Request request;
  request.file = place.file;
  request.write = write;
  request.offset = place.offset;
  request.buffer = bounce ? bounce.data() : row.data;
  request.bytes = place.file->direct() ? align_up(row.bytes) : row.bytes;
  request.task = call->task;
  return request;
}

Status RowTransfer::check(Verify verify, uint64_t store_seed) {
  if (result.error == ECANCELED) {
    return make_status(Code::cancelled, "load of %s was cancelled", row.key.prefix().c_str());
  }
  if (result.error != 0) {
    return errno_status(result.error, "load of %s from %s", row.key.prefix().c_str(),
                        place.file->path().c_str());
  }
  const void* payload = bounce ? bounce.data() : row.data;
  if (result.bytes < row.bytes) {
    return make_status(Code::corruption, "load of %s: %s ends after %zu of %u bytes",
                       row.key.prefix().c_str(), place.file->path().c_str(), result.bytes,
                       row.bytes);
  }
  if (wants_check(verify, row.key) &&
      payload_digest(payload, row.bytes, row.key, store_seed) != entry.digest) {
    return make_status(Code::corruption, "load of %s: the bytes in slot %u of %s are not its own",
                       row.key.prefix().c_str(), entry.slot, place.file->path().c_str());
  }
  if (bounce) std::memcpy(row.data, bounce.data(), row.bytes);
  return {};
}

LazyEngine::LazyEngine(const PageStoreOptions& options)
    : options_{.use_io_uring = options.use_io_uring,
               .threads = std::max(1u, options.io_threads),
               .depth = std::max(1u, options.io_depth)} {}

void LazyEngine::submit(std::span<io::Request> requests) {
  std::shared_ptr<io::Engine> engine;
  {
    const std::lock_guard lock(mutex_);
    if (!engine_ && !closed_) engine_ = io::make_engine(options_);
    engine = engine_;
  }
  if (engine) {
    engine->submit(requests);
  } else {
    for (io::Request& request : requests) request.done({0, ECANCELED});
  }
}

std::string LazyEngine::name() const {
  const std::lock_guard lock(mutex_);
  return engine_ ? std::string(engine_->name()) : std::string();
}

size_t LazyEngine::outstanding() const {
  const std::lock_guard lock(mutex_);
  return engine_ ? engine_->outstanding() : 0;
}

bool LazyEngine::close(std::chrono::milliseconds timeout) {
  std::shared_ptr<io::Engine> engine;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    engine = engine_;
  }
  return !engine || engine->close(timeout);
}

Status check_row(const PageRow& row, uint64_t slot_bytes) {
  if (row.data && row.bytes > 0 && row.bytes <= slot_bytes) return {};
  return make_status(Code::invalid_argument, "block %s: %u bytes at %p, a slot holds 1 to %llu",
                     row.key.prefix().c_str(), row.bytes, row.data,
                     static_cast<unsigned long long>(slot_bytes));
}

Status closed_status() { return make_status(Code::unavailable, "the page store is closed"); }

void report(std::vector<RowOutcome>* outcomes) {
  for (RowOutcome& outcome : *outcomes) outcome.call->done(outcome.row, outcome.status);
  outcomes->clear();
}

}  // namespace ucm::pages
