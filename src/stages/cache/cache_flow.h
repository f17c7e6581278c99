// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
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

// Up to this waking another thread takes longer than it saves.
inline constexpr size_t kCopyHere = size_t{1} << 20;

inline Status closed_status() {
  return make_status(Code::unavailable, "cache: the store is closed");
}

inline Status not_stored(const BlockKey& key) {
  return make_status(Code::not_found, "cache: block %s is not stored", key.prefix().c_str());
}

// The life of rows inside the Cache. Each event (a call, a copy that ended, a block that arrived
// from below, a change of a shared pool) is decided under one lock, which fills a Work list, and
// acted upon after it:
//   admission:   row -> ready slot | shard of a filling block | fetch from below | wait for a slot
//   completion:  copied shard -> complete block -> written below -> done
// Blocks and the shards they lack are in the SlotTable, which other processes may share; here is
// what this process does about them. Lives until the last callback is gone, which may be long after
// the stage below.
class CacheFlow : public std::enable_shared_from_this<CacheFlow> {
 public:
  struct Parts {
    BlockLayout layout;
    std::unique_ptr<SlotTable> slots;
    std::unique_ptr<transport::Copier> copier;
    std::shared_ptr<StageMetrics> metrics;
    std::shared_ptr<CapacityShadow> shadow;  // null when nothing is retained
    std::shared_ptr<Store> next;             // may be null
    bool retain = true;
    std::chrono::nanoseconds timeout{};
  };
  explicit CacheFlow(Parts parts);

  TaskPtr start(Direction direction, const Batch& batch);
  void find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present);
  void prefetch(std::span<const BlockKey> keys);
  void remove(std::span<const BlockKey> keys);
  // Gives up those of which only a part is here (cache_abandon.cpp); answers the others.
  std::vector<BlockKey> abandon(std::span<const BlockKey> keys);
  void renew(std::span<const BlockKey> keys);
  void keep(std::span<const BlockKey> keys, std::span<uint8_t> kept);
  void let_go(std::span<const BlockKey> keys);
  // A shared pool has changed, or a member may have died: looks again at what waits for others.
  // True while something still does.
  bool look_again();
  // Refuses new rows, fails waiting ones and waits for the others up to the timeout.
  void drain();
  // After `drain` and after the stage below was closed: ends the rows that still wait for it, and
  // returns when nothing moves in the callers' memory any more, whatever comes later.
  void give_up();

  // For the watch over a shared pool: sleeps until a row waits for other processes. False: stop.
  bool wait_until_waiting();
  void stop_waiting();
  memory::SharedEvent& event() { return parts_.slots->event(); }

 private:
  // About a block that is not ready yet and that this process is at work on: it fetches it from
  // below, which pins the slot once, or copies some of its shards, each of which does. Only where
  // somebody waits or something has failed.
  struct Filling {
    Status failure;
    std::vector<Row> waiters;
  };
  struct CopyRow {
    Row row;
    uint32_t slot;
    std::optional<Digest> digest = {};  // of a dumped block, when it was taken while copying
  };
  struct Write {
    uint32_t slot;
    std::optional<Digest> digest;
    Row row;                  // finished with the outcome of the write
    std::vector<Row> others;  // as well
  };
  struct Finished {
    Row row;
    Status status;
  };
  struct Work {
    std::vector<Finished> finished;
    std::vector<Row> released;
    std::vector<CopyRow> copies;
    std::vector<uint32_t> fetches;
    std::vector<Write> writes;
    std::vector<BlockKey> removals;
    std::vector<Row> hidden;  // loads of blocks that are here in part, and maybe whole below
    size_t copy_here = 0;     // so many bytes at most may be copied by the thread that acts
  };
  // What the stage below has to say about fetches: a block has come, or a batch is over, whose
  // slots were kept pinned for it.
  struct Landed {
    uint32_t slot = SlotTable::kNone;
    Status status;
    std::vector<uint32_t> batch;
    bool alone = false;  // nobody else fetches for it, and it is small
  };
  // This process's lock and the pool's, in this order.
  class Guard {
   public:
    explicit Guard(CacheFlow* flow);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    CacheFlow* const flow_;
    const std::lock_guard<std::mutex> lock_;
  };

  // Admission (cache_admission.cpp), under the lock. False: the row must wait for a slot.
  bool admit(const Row& row, Work* work);
  bool admit_dump(const Row& row, Work* work);
  bool admit_load(const Row& row, Work* work);
  uint32_t acquire(const BlockKey& key, SlotState state);
  // Until the block of a slot that is not ready is ready or gone.
  void wait_for(const Row& row, uint32_t slot);
  void pump(Work* work);
  void pump_sometimes(Work* work);
  void cancel_waiting(const Transfer* transfer);
  bool waits_for_others() const { return !elsewhere_.empty() || !waiting_.empty(); }

  // Closing (cache_close.cpp), under the lock.
  void fail_incomplete();
  void end_waiting(Work* work);

  // Completion (cache_completion.cpp), under the lock.
  void shard_copied(const CopyRow& copied, const Status& status, Work* work);
  void shard_failed(const CopyRow& copied, const Status& status, Work* work);
  void finish_twins(const CopyRow& copied, Work* work);
  void complete_dump(const CopyRow& last, Work* work);
  void complete_fetch(uint32_t slot, const Status& status, Work* work);
  Filling take_filling(uint32_t slot);
  void release_waiters(const std::vector<Row>& waiters, uint32_t slot, const Status& status,
                       Work* work);
  // Events from the copier and the stage below.
  void on_copied(const std::vector<CopyRow>& rows, const Status& status);
  void on_landed(Landed landed);
  void land();
  bool take_landed(Work* work);
  // A batch sent down has ended.
  void end_batch(Work* work);
  void on_write_over();
  void on_written(const Write& write, const Status& status);

  // Acting on a Work list (cache_action.cpp), without the lock.
  void act(Work work);
  // Of a batch of so many rows.
  uint32_t rows_per_job(size_t rows) const;
  void submit_copies(const std::vector<CopyRow>& copies, size_t copy_here);
  void submit_copy_job(std::vector<CopyRow> rows, bool here);
  // The seeds of the rows' digests (in `low`); null where digests are not taken while copying.
  std::shared_ptr<std::vector<Digest>> digest_seeds(const std::vector<CopyRow>& rows) const;
  void append_pieces(const CopyRow& copy, std::vector<CopyPiece>* pieces) const;
  void submit_fetches(const std::vector<uint32_t>& slots);
  void submit_writes(std::vector<Write> writes);
  void load_hidden(const Row& row);
  // The pinned slots as a batch for the stage below, counted as open.
  SentBatch describe(const std::vector<uint32_t>& slots);
  void finish(std::span<const Finished> rows);
  // Rows of one transfer.
  void finish_together(std::span<const Finished> rows);
  void end_transfer(std::shared_ptr<Transfer> transfer);
  void renew_last_first(std::span<const BlockKey> keys);
  void publish_gauges();

  Parts parts_;
  std::mutex mutex_;
  std::condition_variable idle_;
  std::condition_variable others_wanted_;
  std::unordered_map<uint32_t, Filling> fillings_;  // by slot
  WaitingRows waiting_;                             // for a slot
  WaitingRows elsewhere_;  // for a block that other processes are at work on
  size_t open_ = 0;        // transfers and tasks of the stage below that have not ended
  const size_t gather_;    // written blocks whose slots are given to waiting rows together
  size_t written_ = 0;     // blocks since slots were last given
  uint64_t evicted_published_ = 0;
  uint64_t refused_published_ = 0;
  bool closed_ = false;
  bool stopped_ = false;
  uint32_t reaped_ms_ = 0;   // when members that died were last looked for
  std::mutex landed_mutex_;  // taken inside the lock, guards what is below
  std::deque<Landed> landed_;
  bool landing_ = false;  // a thread will look at them
};

}  // namespace ucm::stages::cache
