// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_engine.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace ucm::posix {
namespace {

// Lookups are short calls; a few threads hide the round trips of a network file system.
constexpr uint32_t kLookupThreads = 4;
// A prefix is asked for in strides that double, so that a miss at its head costs little.
constexpr size_t kFirstStride = 32;
constexpr size_t kLongestStride = 1024;
// First uses that are remembered, in 4 bytes each.
constexpr uint64_t kMostRemembered = 1 << 20;
// Waking another thread takes about as long as reading this much from the page cache.
constexpr size_t kLoadHere = size_t{1} << 20;
// What a crew may take to end after all transfers have ended.
constexpr std::chrono::milliseconds kPatience{500};

Status closed_status() { return make_status(Code::unavailable, "posix: the store is closed"); }

Status dump_status(const BlockKey& key, Status status) {
  const std::string context = "posix: dump of block " + key.prefix();
  if (status.code() != Code::no_space) return std::move(status).with_context(context);
  return Status(Code::no_space, context + ": " + status.message() +
                                    "; free space there, lower capacity_bytes or add a backend");
}

}  // namespace

PosixEngine::PosixEngine(const PosixOptions& options, std::shared_ptr<BlockSet> blocks,
                         bool read_only, std::shared_ptr<StageMetrics> metrics,
                         std::unique_ptr<CapacityShadow> shadow)
    : options_(options),
      blocks_(std::move(blocks)),
      metrics_(std::move(metrics)),
      shadow_(std::move(shadow)),
      watch_(&stuck_),
      crew_("ucm-posix-io", blocks_->layout().empty() ? std::min(options.io_threads, kLookupThreads)
                                                      : options.io_threads),
      desk_(&crew_, std::min(options.io_threads, kLookupThreads), options.timeout()) {
  if (!read_only) {
    collector_ = std::make_unique<Collector>(options, blocks_, metrics_);
  }
  if (options.second_use && !blocks_->layout().empty()) {
    const uint64_t bytes = file_bytes(blocks_->layout().block_bytes());
    second_use_ = std::make_unique<base::SecondUse>(static_cast<uint32_t>(
        std::clamp<uint64_t>(options.own_bytes() / bytes, 1, kMostRemembered)));
  }
  if (!blocks_->layout().empty()) buffers_.reserve(options.io_threads);
}

bool PosixEngine::ready() {
  return watch_.runs() && crew_.ready() && (!collector_ || collector_->runs());
}

Status PosixEngine::check_open() const {
  if (closed_.load()) return closed_status();
  if (stuck_.load() < static_cast<int64_t>(options_.io_threads)) return {};
  return make_status(Code::unavailable,
                     "posix: the storage has not answered any of %u calls in time",
                     options_.io_threads);
}

Status PosixEngine::ask_present(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  UCM_TRY(check_open());
  // What was asked a moment ago costs neither a thread nor a system call.
  if (blocks_->known(keys, present)) return {};
  return desk_.ask(keys, [set = blocks_](const BlockKey& key) { return set->has(key); }, present);
}

Status PosixEngine::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  UCM_TRY(ask_present(keys, present));
  if (shadow_) shadow_->looked_up(keys, false);
  metrics_->looked_up(keys.size(),
                      static_cast<size_t>(std::count(present.begin(), present.end(), uint8_t{1})));
  return {};
}

Result<size_t> PosixEngine::lookup_prefix(std::span<const BlockKey> keys) {
  std::vector<uint8_t> present(std::min(keys.size(), kLongestStride));
  size_t count = 0;
  for (size_t stride = kFirstStride; count < keys.size();
       stride = std::min(stride * 2, kLongestStride)) {
    const size_t asked = std::min(stride, keys.size() - count);
    const std::span<uint8_t> answers(present.data(), asked);
    UCM_TRY(ask_present(keys.subspan(count, asked), answers));
    const auto miss = std::find(answers.begin(), answers.end(), uint8_t{0});
    count += static_cast<size_t>(miss - answers.begin());
    if (miss != answers.end()) break;
  }
  if (shadow_) shadow_->looked_up(keys, true);
  metrics_->looked_up(keys.size(), count);
  return count;
}

Status PosixEngine::remove(std::span<const BlockKey> keys) {
  UCM_TRY(check_open());
  if (shadow_) shadow_->removed(keys);
  std::vector<uint8_t> answers(keys.size());
  return desk_.ask(
      keys,
      [set = blocks_](const BlockKey& key) -> Result<uint8_t> {
        UCM_TRY(set->remove(key));
        return uint8_t{1};
      },
      answers);
}

Status PosixEngine::mark_pinned(std::span<const BlockKey> keys, bool pinned,
                                std::span<uint8_t> answers) {
  if (closed_.load()) return closed_status();
  return desk_.ask(
      keys, [set = blocks_, pinned](const BlockKey& key) { return set->mark_pinned(key, pinned); },
      answers);
}

TaskPtr PosixEngine::submit(Direction direction, const Batch& batch) {
  const auto rows = static_cast<uint32_t>(batch.rows());
  if (Status refusal = check_open(); !refusal.ok()) {
    metrics_->failed(refusal, rows);
    return Task::finished(rows, std::move(refusal));
  }
  if (rows == 0) return Task::finished(0, {});
  // Heads of a chain are used last, as everywhere.
  for (uint32_t row = shadow_ ? rows : 0; row-- > 0;) shadow_->used(batch.keys[row]);
  const auto transfer = std::make_shared<Transfer>(direction, batch, options_.timeout(),
                                                   blocks_->layout().block_bytes(), metrics_);
  if (direction == Direction::load && rows == 1 && load_here(*transfer)) return transfer->task();
  watch_.add(transfer);
  if (rows > 1 && blocks_->packs()) {
    submit_packs(transfer);
    return transfer->task();
  }
  const base::Lane lane = direction == Direction::load ? base::Lane::urgent : base::Lane::normal;
  for (uint32_t row = 0; row < rows; ++row) {
    metrics_->queue_depth().add(1);
    const bool accepted = crew_.submit(
        lane, [engine = shared_from_this(), transfer, row] { engine->run_row(transfer, row); });
    if (accepted) continue;
    metrics_->queue_depth().add(-1);
    if (transfer->start(row)) transfer->finish(row, closed_status(), false);
  }
  return transfer->task();
}

void PosixEngine::run_row(const TransferPtr& transfer, uint32_t row) {
  metrics_->queue_depth().add(-1);
  if (!transfer->start(row)) return;
  try {
    if (transfer->direction() == Direction::load) {
      load_row(*transfer, row);
    } else {
      dump_row(*transfer, row);
    }
  } catch (const std::bad_alloc&) {
    finish(*transfer, row,
           make_status(Code::out_of_memory, "posix: block %s: no memory",
                       transfer->key(row).prefix().c_str()),
           false);
  }
}

void PosixEngine::finish(Transfer& transfer, uint32_t row, const Status& status, bool moved) {
  if (!transfer.finish(row, status, moved)) stuck_.fetch_sub(1);
}

bool PosixEngine::load_here(Transfer& transfer) {
  if (blocks_->layout().block_bytes() > kLoadHere) return false;
  auto report = std::make_shared<BlockReport>();
  if (!blocks_->read_cached(transfer.key(0), transfer.memory(0), report.get())) return false;
  if (transfer.start(0)) transfer.finish(0, {}, true);
  const int64_t used = transfer.use_time(0);
  // That call may wait for the disk.
  if (blocks_->notes_use(*report, used)) {
    static_cast<void>(crew_.submit(
        base::Lane::normal, [set = blocks_, report, used] { set->note_use(*report, used); }));
  }
  return true;
}

void PosixEngine::load_row(Transfer& transfer, uint32_t row) {
  BlockReport report;
  // Nothing can hang here, so the row stays held while its memory is written.
  if (blocks_->read_cached(transfer.key(row), transfer.memory(row), &report)) {
    finish(transfer, row, {}, true);
    return blocks_->note_use(report, transfer.use_time(row));
  }
  transfer.loosen(row);
  // A buffer of our own: the caller's memory must not be written after the row was given up.
  io::AlignedBuffer buffer = take_buffer();
  if (!buffer) {
    finish(transfer, row,
           make_status(Code::out_of_memory, "posix: no memory for a buffer of %zu bytes",
                       buffer_bytes()),
           false);
    return;
  }
  const Status status =
      blocks_->read(transfer.key(row), buffer.data(), transfer.deadline(), &report);
  if (status.ok() && transfer.hold(row)) {
    std::memcpy(transfer.memory(row), buffer.data(), blocks_->layout().slot_bytes());
  }
  finish(transfer, row, status, true);
  give_buffer(std::move(buffer));
  if (status.ok()) blocks_->note_use(report, transfer.use_time(row));
}

void PosixEngine::dump_row(Transfer& transfer, uint32_t row) {
  transfer.loosen(row);
  const Status stored = blocks_->find_stored(transfer.key(row));
  if (stored.code() != Code::not_found) return finish(transfer, row, stored, false);
  if (admit(transfer, row)) write_row(transfer, row);
}

bool PosixEngine::admit(Transfer& transfer, uint32_t row) {
  if (!second_use_) return true;
  {
    const std::lock_guard lock(second_use_mutex_);
    if (second_use_->admit(mix(transfer.key(row)))) return true;
  }
  metrics_->refused_blocks().add();
  finish(transfer, row, {}, false);
  return false;
}

// A loose row whose block is not stored, into a file of its own.
void PosixEngine::write_row(Transfer& transfer, uint32_t row) {
  const BlockKey& key = transfer.key(row);
  const uint64_t bytes = file_bytes(blocks_->layout().block_bytes());
  QuotaClaim claim(collector_->room(), bytes, transfer.deadline());
  if (!claim.granted()) {
    collector_->no_room(bytes);
    metrics_->refused_blocks().add();
    return finish(transfer, row, {}, false);
  }
  if (!transfer.hold(row)) return finish(transfer, row, {}, false);
  auto image = BlockImage::make(key, blocks_->layout(), transfer.memory(row), transfer.digest(row),
                                transfer.started_ns());
  // From here on only system calls touch the caller's memory. If it is given up and changes under
  // a call that hangs, what was written is dropped, or does not match its checksum.
  transfer.loosen(row);
  if (!image.ok()) return finish(transfer, row, image.status(), false);
  const Result<bool> ours =
      blocks_->write(key, image.value(), transfer.use_time(row), transfer.deadline(),
                     [&] { return !transfer.given_up(row); });
  // After a failure its bytes may be there all the same.
  if (!ours.ok() || ours.value()) claim.keep();
  report_write(transfer, row, ours, bytes);
}

void PosixEngine::report_write(Transfer& transfer, uint32_t row, const Result<bool>& ours,
                               uint64_t bytes) {
  if (ours.ok() && ours.value()) collector_->wrote(bytes);
  if (ours.status().code() == Code::no_space) collector_->out_of_space();
  finish(transfer, row, dump_status(transfer.key(row), ours.status()), ours.ok() && ours.value());
}

io::AlignedBuffer PosixEngine::take_buffer() {
  {
    const std::lock_guard lock(buffers_mutex_);
    if (!buffers_.empty()) {
      io::AlignedBuffer buffer = std::move(buffers_.back());
      buffers_.pop_back();
      return buffer;
    }
  }
  return io::AlignedBuffer::make(buffer_bytes());
}

void PosixEngine::give_buffer(io::AlignedBuffer buffer) {
  const std::lock_guard lock(buffers_mutex_);
  buffers_.push_back(std::move(buffer));
}

void PosixEngine::close() {
  if (closed_.exchange(true)) return;
  watch_.close();
  if (collector_) collector_->close();
  crew_.close(kPatience);
}

}  // namespace ucm::posix
