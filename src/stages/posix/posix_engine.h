// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/second_use.h"
#include "io/aligned_buffer.h"
#include "stages/posix/posix_blocks.h"
#include "stages/posix/posix_collector.h"
#include "stages/posix/posix_crew.h"
#include "stages/posix/posix_inquiry.h"
#include "stages/posix/posix_options.h"
#include "stages/posix/posix_pack.h"
#include "stages/posix/posix_transfer.h"
#include "store/capacity_shadow.h"
#include "ucm/batch.h"

namespace ucm::posix {

// The threads of the Posix stage and what runs on them. Shared with its own jobs: one that hangs in
// the storage keeps the engine alive after `close`. Thread-safe.
class PosixEngine : public std::enable_shared_from_this<PosixEngine> {
 public:
  PosixEngine(const PosixOptions& options, std::shared_ptr<BlockSet> blocks, bool read_only,
              std::shared_ptr<StageMetrics> metrics, std::unique_ptr<CapacityShadow> shadow);

  // Whether it has the threads it can not do without.
  bool ready();
  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present);
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys);
  Status remove(std::span<const BlockKey> keys);
  Status mark_pinned(std::span<const BlockKey> keys, bool pinned, std::span<uint8_t> answers);
  // The batch fits the layout.
  TaskPtr submit(Direction direction, const Batch& batch);
  // Ends all transfers, by their deadlines at the latest.
  void close();

 private:
  Status check_open() const;
  Status ask_present(std::span<const BlockKey> keys, std::span<uint8_t> present);
  void run_row(const TransferPtr& transfer, uint32_t row);
  void load_row(Transfer& transfer, uint32_t row);
  // On the caller's thread, before anybody else knows the transfer.
  bool load_here(Transfer& transfer);
  void dump_row(Transfer& transfer, uint32_t row);
  void write_row(Transfer& transfer, uint32_t row);
  void report_write(Transfer& transfer, uint32_t row, const Result<bool>& ours, uint64_t bytes);
  // posix_pack_dump.cpp
  void submit_packs(const TransferPtr& transfer);
  void run_pack(const TransferPtr& transfer, uint32_t first, uint32_t count);
  void dump_packs(Transfer& transfer, uint32_t first, uint32_t count);
  Result<PackImage> gather_pack(Transfer& transfer, const std::vector<uint32_t>& riding,
                                std::vector<uint32_t>* rows) const;
  std::vector<Result<bool>> write_pack(Transfer& transfer, const PackImage& image,
                                       const std::vector<uint32_t>& rows);
  void dump_pack(Transfer& transfer, const std::vector<uint32_t>& rows);
  // posix_pack_load.cpp
  void load_packs(Transfer& transfer, uint32_t first, uint32_t count);
  void load_neighbours(Transfer& transfer, const BlockReport& report,
                       std::span<const uint32_t> riding, std::byte* buffer);
  size_t buffer_bytes() const;
  // Whether a block that is not stored is to be stored; else its row has ended.
  bool admit(Transfer& transfer, uint32_t row);
  void finish(Transfer& transfer, uint32_t row, const Status& status, bool moved);
  io::AlignedBuffer take_buffer();
  void give_buffer(io::AlignedBuffer buffer);

  const PosixOptions options_;
  const std::shared_ptr<BlockSet> blocks_;
  const std::shared_ptr<StageMetrics> metrics_;
  const std::unique_ptr<CapacityShadow> shadow_;  // may be null
  std::mutex second_use_mutex_;
  std::unique_ptr<base::SecondUse> second_use_;  // may be null
  // Rows whose system calls outlived their deadline and have not returned yet.
  std::atomic<int64_t> stuck_{0};
  std::atomic<bool> closed_{false};
  std::mutex buffers_mutex_;
  std::vector<io::AlignedBuffer> buffers_;
  DeadlineWatch watch_;
  WorkerCrew crew_;
  InquiryDesk desk_;
  std::unique_ptr<Collector> collector_;  // of writers
};

}  // namespace ucm::posix
