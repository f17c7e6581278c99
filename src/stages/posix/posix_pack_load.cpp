// SPDX-License-Identifier: Apache-2.0
// Loads of small blocks that share files.
#include <algorithm>
#include <cstring>

#include "stages/posix/posix_engine.h"
#include "stages/posix/posix_pack.h"

namespace ucm::posix {
namespace {

// A row whose block is number `number` of a shared file.
struct Neighbour {
  size_t number;
  uint32_t row;
};

}  // namespace

void PosixEngine::load_packs(Transfer& transfer, uint32_t first, uint32_t count) {
  std::vector<uint32_t> rows;
  for (uint32_t row = first; row < first + count; ++row) {
    if (transfer.start(row) && transfer.ride(row)) rows.push_back(row);
  }
  io::AlignedBuffer buffer = take_buffer();
  for (size_t i = 0; i < rows.size(); ++i) {
    const uint32_t row = rows[i];
    // It may have been given up, or loaded with an earlier one.
    if (!transfer.hold(row)) continue;
    if (!buffer) {
      load_row(transfer, row);
      continue;
    }
    // From here on this row stands for the system calls of all that are read with it.
    transfer.loosen(row);
    BlockReport report;
    const Status status =
        blocks_->read(transfer.key(row), buffer.data(), transfer.deadline(), &report);
    if (status.ok() && report.pack != nullptr) {
      load_neighbours(transfer, report, std::span(rows).subspan(i + 1),
                      buffer.data() + blocks_->buffer_bytes());
    }
    if (status.ok() && transfer.hold(row)) {
      std::memcpy(transfer.memory(row), buffer.data(), blocks_->layout().slot_bytes());
    }
    finish(transfer, row, status, true);
    if (status.ok()) blocks_->note_use(report, transfer.use_time(row));
  }
  if (buffer) give_buffer(std::move(buffer));
}

// Those of the riding rows whose blocks lie in the file of `report`, neighbours by one call each
// run. What does not come back as it was dumped stays for a load of its own, which says why.
void PosixEngine::load_neighbours(Transfer& transfer, const BlockReport& report,
                                  std::span<const uint32_t> riding, std::byte* buffer) {
  const std::vector<PackedBlock>& blocks = report.pack->blocks;
  std::vector<Neighbour> found;
  size_t next = 0;
  for (const uint32_t row : riding) {
    // Blocks are asked for in the order in which they were dumped, most of the time.
    for (size_t step = 0; step < blocks.size(); ++step) {
      const size_t number = (next + step) % blocks.size();
      if (!(blocks[number].key == transfer.key(row))) continue;
      next = number + 1;
      if (blocks_->shares_file(report, transfer.key(row))) found.push_back({number, row});
      break;
    }
  }
  std::sort(found.begin(), found.end(),
            [](const Neighbour& a, const Neighbour& b) { return a.number < b.number; });
  const size_t slot = blocks_->layout().slot_bytes();
  for (size_t begin = 0, end = 0; begin < found.size(); begin = end) {
    for (end = begin + 1; end < found.size() && found[end].number <= found[end - 1].number + 1;) {
      ++end;
    }
    const size_t first = found[begin].number;
    const size_t count = found[end - 1].number - first + 1;
    if (!blocks_->read_packed(report, first, count, buffer)) continue;
    for (size_t i = begin; i < end; ++i) {
      const std::byte* payload = buffer + (found[i].number - first) * slot;
      if (!blocks_->sound_packed(report, found[i].number, payload)) continue;
      if (!transfer.hold(found[i].row)) continue;
      std::memcpy(transfer.memory(found[i].row), payload, slot);
      transfer.finish(found[i].row, {}, true);
    }
  }
}

}  // namespace ucm::posix
