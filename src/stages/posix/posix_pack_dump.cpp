// SPDX-License-Identifier: Apache-2.0
// Batches of small blocks that share files: how they are divided, and dumps.
#include <algorithm>
#include <map>
#include <new>

#include "stages/posix/posix_engine.h"
#include "stages/posix/posix_pack.h"

namespace ucm::posix {
namespace {

// Large enough that the file costs little beside its blocks, small enough to spread a batch over
// all threads.
constexpr size_t kPackBytes = size_t{2} << 20;
constexpr size_t kLeastPack = 8;

size_t most_rows(size_t slot_bytes) {
  return std::clamp<size_t>(kPackBytes / slot_bytes, 2, kMaxPackBlocks);
}

size_t pack_rows(size_t rows, size_t slot_bytes, size_t threads) {
  return std::min(most_rows(slot_bytes), std::max(kLeastPack, (rows + threads - 1) / threads));
}

// Takes out the rows whose key stands in an earlier row.
std::vector<uint32_t> take_twins(const Transfer& transfer, std::vector<uint32_t>* rows) {
  std::vector<uint32_t> once;
  std::vector<uint32_t> twins;
  for (const uint32_t row : *rows) {
    const bool twin = std::any_of(once.begin(), once.end(), [&](uint32_t earlier) {
      return transfer.key(earlier) == transfer.key(row);
    });
    (twin ? twins : once).push_back(row);
  }
  *rows = std::move(once);
  return twins;
}

}  // namespace

// A block by itself, and behind it as many as one job moves.
size_t PosixEngine::buffer_bytes() const {
  if (!blocks_->packs()) return blocks_->buffer_bytes();
  const size_t slot = blocks_->layout().slot_bytes();
  return blocks_->buffer_bytes() + most_rows(slot) * slot;
}

void PosixEngine::submit_packs(const TransferPtr& transfer) {
  const uint32_t rows = transfer->rows();
  const auto step =
      static_cast<uint32_t>(pack_rows(rows, blocks_->layout().slot_bytes(), options_.io_threads));
  const bool loads = transfer->direction() == Direction::load;
  for (uint32_t first = 0; first < rows; first += step) {
    const uint32_t count = std::min(step, rows - first);
    metrics_->queue_depth().add(count);
    const bool accepted = crew_.submit(loads ? base::Lane::urgent : base::Lane::normal,
                                       [engine = shared_from_this(), transfer, first, count] {
                                         engine->run_pack(transfer, first, count);
                                       });
    if (accepted) continue;
    metrics_->queue_depth().add(-static_cast<int64_t>(count));
    for (uint32_t row = first; row < first + count; ++row) {
      if (transfer->start(row)) transfer->finish(row, check_open(), false);
    }
  }
}

void PosixEngine::run_pack(const TransferPtr& transfer, uint32_t first, uint32_t count) {
  metrics_->queue_depth().add(-static_cast<int64_t>(count));
  try {
    if (transfer->direction() == Direction::load) {
      load_packs(*transfer, first, count);
    } else {
      dump_packs(*transfer, first, count);
    }
  } catch (const std::bad_alloc&) {
    for (uint32_t row = first; row < first + count; ++row) {
      // Rows that have ended stay as they are.
      if (!transfer->start(row) && !transfer->hold(row)) continue;
      transfer->finish(row, make_status(Code::out_of_memory, "posix: no memory"), false);
    }
  }
}

void PosixEngine::dump_packs(Transfer& transfer, uint32_t first, uint32_t count) {
  std::map<size_t, std::vector<uint32_t>> homes;
  for (uint32_t row = first; row < first + count; ++row) {
    if (!transfer.start(row)) continue;
    transfer.loosen(row);
    const Status stored = blocks_->find_stored(transfer.key(row));
    if (stored.code() == Code::not_found && !admit(transfer, row)) continue;
    if (stored.code() == Code::not_found && transfer.ride(row)) {
      homes[blocks_->pack_home(transfer.key(row))].push_back(row);
    } else {
      finish(transfer, row, stored, false);
    }
  }
  for (auto& [home, rows] : homes) {
    const std::vector<uint32_t> twins = take_twins(transfer, &rows);
    dump_pack(transfer, rows);
    for (const uint32_t row : twins) {
      if (!transfer.hold(row)) continue;
      transfer.loosen(row);
      const Status stored = blocks_->find_stored(transfer.key(row));
      if (stored.code() == Code::not_found) {
        write_row(transfer, row);
      } else {
        finish(transfer, row, stored, false);
      }
    }
  }
}

// The blocks of riding rows as one file. Those that were given up are left out; the first of the
// others is loose from then on and stands for the system calls of all of them.
Result<PackImage> PosixEngine::gather_pack(Transfer& transfer, const std::vector<uint32_t>& riding,
                                           std::vector<uint32_t>* rows) const {
  UCM_TRY_ASSIGN(PackImage image,
                 PackImage::make(blocks_->layout(), transfer.started_ns(), riding.size()));
  const size_t bytes = blocks_->layout().block_bytes();
  for (const uint32_t row : riding) {
    if (!transfer.hold(row)) continue;
    const Digest* known = transfer.digest(row);
    const std::byte* payload = transfer.memory(row);
    image.add(transfer.key(row), known ? *known : base::digest_128(payload, bytes, kPayloadSeed),
              payload);
    rows->push_back(row);
    // From here on only system calls touch the caller's memory, as for a block written alone.
    if (rows->size() > 1) {
      transfer.ride(row);
    } else {
      transfer.loosen(row);
    }
  }
  image.seal();
  return image;
}

// One answer per row. Without room for all of them each is left to be written alone.
std::vector<Result<bool>> PosixEngine::write_pack(Transfer& transfer, const PackImage& image,
                                                  const std::vector<uint32_t>& rows) {
  QuotaClaim claim(collector_->room(), image.bytes(), transfer.deadline());
  if (!claim.granted()) {
    return std::vector<Result<bool>>(rows.size(), make_status(Code::no_space, "posix: no room"));
  }
  auto answers = blocks_->write_pack(image, transfer.use_time(rows.front()),
                                     [&](size_t i) { return !transfer.given_up(rows[i]); });
  // After a failure its bytes may be there all the same.
  const bool kept = std::any_of(answers.begin(), answers.end(), [](const Result<bool>& answer) {
    return answer.ok() ? answer.value() : answer.status().code() != Code::cancelled;
  });
  if (kept) claim.keep();
  return answers;
}

// Riding rows whose blocks are not stored.
void PosixEngine::dump_pack(Transfer& transfer, const std::vector<uint32_t>& riding) {
  std::vector<uint32_t> rows;
  const auto image = gather_pack(transfer, riding, &rows);
  if (!image.ok()) {
    for (const uint32_t row : riding) transfer.finish(row, image.status(), false);
    return;
  }
  if (rows.empty()) return;
  if (rows.size() == 1) return write_row(transfer, rows.front());
  const auto answers = write_pack(transfer, image.value(), rows);
  const uint64_t share = image.value().bytes() / rows.size();
  for (size_t i = 0; i < rows.size(); ++i) {
    // A riding row that was given up is nobody's any more; the first one is counted off.
    if (i > 0 && !transfer.hold(rows[i])) continue;
    if (i > 0) transfer.loosen(rows[i]);
    const Code code = answers[i].status().code();
    if (answers[i].ok() || code == Code::cancelled || code == Code::unsupported) {
      report_write(transfer, rows[i], answers[i], share);
    } else {
      write_row(transfer, rows[i]);
    }
  }
}

}  // namespace ucm::posix
