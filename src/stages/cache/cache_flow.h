// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "stages/cache/slot_table.h"
#include "stages/cache/transfer.h"
#include "stages/cache/waiting_rows.h"
#include "store/capacity_shadow.h"
#include "store/sent_batch.h"
#include "store/stage_metrics.h"
#include "transport/copier.h"
#include "ucm/layout.h"
#include "ucm/store.h"

namespace ucm::stages::cache {

// The life of rows inside the Cache. Each event (a call, a copy that ended, a block that arrived
// from below) is decided under one lock, which fills a Work list, and acted upon after it:
//   admission:   row -> ready slot | shard of a filling block | fetch from below | wait for a slot
//   completion:  copied shard -> complete block -> written below -> done
// Lives until the last callback is gone; it never owns the stage below.
class CacheFlow : public std::enable_shared_from_this<CacheFlow> {
 public:
  struct Parts {
    BlockLayout layout;
    std::unique_ptr<SlotTable> slots;
    std::unique_ptr<transport::Copier> copier;
    std::shared_ptr<StageMetrics> metrics;
    std::shared_ptr<CapacityShadow> shadow;  // null when nothing is retained
    Store* next = nullptr;                   // may be null
    bool retain = true;
    std::chrono::nanoseconds timeout{};
  };
  explicit CacheFlow(Parts parts) : parts_(std::move(parts)) {}

  TaskPtr start(Direction direction, const Batch& batch);
  void find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present);
  void prefetch(std::span<const BlockKey> keys);
  void remove(std::span<const BlockKey> keys);
  void keep(std::span<const BlockKey> keys, std::span<uint8_t> kept);
  void let_go(std::span<const BlockKey> keys);
  // Refuses new rows, fails waiting ones and waits for the others up to the timeout.
  void drain();
  // After `drain` and after the stage below was closed.
  void close_copier() { parts_.copier->close(); }

 private:
  enum class ShardState : uint8_t { missing, copying, copied };
  // A block that is not ready yet: its shards arrive from dumps, or all of it from below.
  struct Filling {
    bool from_below = false;
    std::vector<ShardState> shards;  // dumps only
    uint32_t copied = 0;
    uint32_t copying = 0;
    Status failure;
    std::vector<Row> waiters;
    std::chrono::steady_clock::time_point since = std::chrono::steady_clock::now();
  };
  struct CopyRow {
    Row row;
    uint32_t slot;
    std::optional<Digest> digest = {};  // of a dumped block, when it was taken while copying
  };
  struct Write {
    uint32_t slot;
    std::optional<Digest> digest;
    std::vector<Row> rows;  // finished with the outcome of the write
  };
  struct Work {
    std::vector<std::pair<Row, Status>> finished;
    std::vector<Row> released;
    std::vector<CopyRow> copies;
    std::vector<uint32_t> fetches;
    std::vector<Write> writes;
    std::vector<BlockKey> removals;
  };

  // Admission (cache_admission.cpp), under the lock. False: the row must wait for a slot.
  bool admit(const Row& row, Work* work);
  bool admit_dump(const Row& row, Work* work);
  bool admit_load(const Row& row, Work* work);
  uint32_t acquire(const BlockKey& key, bool from_below);
  bool reclaim_abandoned();
  void fail_incomplete(Work* work);
  void pump(Work* work);
  void cancel_waiting(const Transfer* transfer);

  // Completion (cache_completion.cpp), under the lock.
  void shard_copied(const CopyRow& copied, const Status& status, Work* work);
  void finish_twins(Filling* filling, uint32_t shard, Work* work);
  void fail_filling(uint32_t slot, Work* work);
  void complete_dump(const CopyRow& last, Work* work);
  void complete_fetch(uint32_t slot, const Status& status, Work* work);
  void release_waiters(std::vector<Row> waiters, uint32_t slot, const Status& status, Work* work);
  // Events from the copier and the stage below.
  void on_copied(const std::vector<CopyRow>& rows, const Status& status);
  void on_fetched(uint32_t slot, const Status& status);
  // A batch sent down has ended; `slots` were kept pinned for it.
  void on_sent_done(const std::vector<uint32_t>& slots);
  void on_written(const Write& write, const Status& status);

  // Acting on a Work list (cache_action.cpp), without the lock.
  void act(Work work);
  void submit_copies(const std::vector<CopyRow>& copies);
  void submit_copy_job(std::vector<CopyRow> rows);
  // The seeds of the rows' digests (in `low`); null where digests are not taken while copying.
  std::shared_ptr<std::vector<Digest>> digest_seeds(const std::vector<CopyRow>& rows) const;
  void append_pieces(const CopyRow& copy, std::vector<CopyPiece>* pieces) const;
  void submit_fetches(const std::vector<uint32_t>& slots);
  void submit_writes(std::vector<Write> writes);
  // The pinned slots as a batch for the stage below, counted as open.
  SentBatch describe(const std::vector<uint32_t>& slots);
  void finish(const Row& row, const Status& status);
  void end_transfer(Transfer* transfer);
  void publish_gauges();

  Parts parts_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::unordered_map<uint32_t, Filling> fillings_;
  WaitingRows waiting_;
  size_t open_ = 0;  // transfers and tasks of the stage below that have not ended
  uint64_t evicted_published_ = 0;
  uint64_t refused_published_ = 0;
  bool closed_ = false;
};

}  // namespace ucm::stages::cache
