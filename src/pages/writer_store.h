// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "base/eviction.h"
#include "base/second_use.h"
#include "base/slot_marks.h"
#include "base/worker_group.h"
#include "io/lock_file.h"
#include "pages/free_slots.h"
#include "pages/page_index.h"
#include "pages/row_transfer.h"
#include "pages/segments.h"
#include "ucm/pages.h"

namespace ucm::pages {

// The one writer of a page store. `mutex_` guards everything below it; lookups take no lock.
// No callback of the caller runs and no file is touched (mapped memory aside) while it is held.
class WriterStore final : public PageStore, public std::enable_shared_from_this<WriterStore> {
 public:
  static Result<std::shared_ptr<WriterStore>> open(const PageStoreOptions& options);
  ~WriterStore() override;

  void lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) const override;
  void load(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) override;
  void dump(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) override;
  Status remove(std::span<const BlockKey> keys) override;
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override;
  Status unpin(std::span<const BlockKey> keys) override;
  void touch(std::span<const BlockKey> keys) override;
  void renew(std::span<const BlockKey> keys) override;
  PageStoreStats stats() const override;
  uint64_t slot_bytes() const override { return format_.slot_bytes; }
  uint64_t digest_seed(const BlockKey& key) const override {
    return payload_seed(key, format_.seed());
  }
  bool close(std::chrono::milliseconds timeout) override;

 private:
  // A dump under way. It is over when both the bytes are written and their digest is known.
  struct Write : RowTransfer {
    std::atomic<int> parts{2};
    std::vector<std::pair<PageRow, CallPtr>> twins;  // later dumps of the same key
  };
  using WritePtr = std::shared_ptr<Write>;
  using ReadPtr = std::shared_ptr<RowTransfer>;
  // What has to happen after the lock is let go.
  struct Consequences {
    std::vector<WritePtr> writes;
    std::vector<RowOutcome> outcomes;
    std::vector<const char*> drops;
    size_t evictions = 0;
    int64_t blocks = 0;  // stored blocks more or less
    int64_t pins = 0;
    size_t refusals = 0;
  };

  WriterStore(const PageStoreOptions& options, const StoreFormat& format, io::LockFile lock);
  Status recover();
  Status make_safe(const std::vector<uint64_t>& slots_there);
  void carry_out(Consequences* consequences);

  // writer_dump.cpp; the lock is held in all that take Consequences.
  bool admit_dump(const PageRow& row, const CallPtr& call, Consequences* after);
  void admit_waiting(Consequences* after);
  void start_writes(std::vector<WritePtr> writes, Consequences* after);
  void part_ended(const WritePtr& write);
  void finish_write(const WritePtr& write, Status status, Consequences* after);
  void note_write_error(const Status& status, int error);
  void commit_strictly();
  void end_commit(const std::vector<WritePtr>& writes, Consequences* after);
  void flush_group();

  // writer_load.cpp
  ReadPtr admit_load(const PageRow& row, const CallPtr& call, Consequences* after);
  void start_reads(const std::vector<ReadPtr>& reads);
  void use_block(uint32_t slot);
  static uint64_t now_ns();
  void read_ended(const ReadPtr& read);

  // writer_space.cpp
  bool take_slot(uint32_t* slot, Consequences* after);
  bool evict_one(Consequences* after);
  void drop_block(uint32_t slot, const char* cause, Consequences* after);
  void forget_block(uint32_t slot, Consequences* after);
  void release_pin(uint32_t slot);
  bool all_ended() const { return jobs_ == 0 && writing_.empty() && pinned_ == 0; }
  void note_end();
  uint64_t usable_slots() const;
  uint64_t used_slots() const;
  bool can_grow() const;
  bool wants_upkeep() const;
  bool wants_growth() const;
  uint64_t growth_step() const;
  bool may_free_up() const;
  void schedule_upkeep();
  void upkeep();
  void grow_once();
  // Runs on a thread of the store, and counted, so that `close` knows when all is quiet.
  void submit_job(void (WriterStore::*job)());

  const PageStoreOptions options_;
  StoreFormat format_;
  io::LockFile lock_;
  Segments segments_;
  std::unique_ptr<PageIndex> index_;
  LazyEngine engine_;
  std::unique_ptr<base::WorkerGroup> owned_workers_;
  base::WorkerGroup* workers_ = nullptr;

  mutable std::mutex mutex_;
  std::condition_variable quiet_;
  std::unique_ptr<base::EvictionPolicy> policy_;
  std::unique_ptr<base::SecondUse> second_use_;  // may be null
  base::SlotMarks kept_;                         // never evicted
  FreeSlots free_;
  struct Pins {
    uint32_t count = 0;
    bool doomed = false;  // forgotten, but still pinned: free when the last pin goes
  };
  std::unordered_map<uint32_t, Pins> pins_;  // of slots being read
  std::unordered_map<BlockKey, WritePtr> writing_;
  std::deque<std::pair<PageRow, CallPtr>> waiting_;  // dumps that wait for a slot
  std::vector<WritePtr> to_commit_;                  // strict: written, not synced
  // strict: published, the index not synced; dumps that meet them wait as twins.
  std::unordered_map<BlockKey, WritePtr> committing_;
  std::set<uint64_t> dirty_;  // group: segments to sync
  std::map<std::string, uint64_t> dropped_;
  uint64_t memory_bytes_ = 0;
  uint64_t slots_there_ = 0;
  uint64_t blocks_ = 0;
  uint64_t pinned_ = 0;      // reads under way
  uint64_t lost_slots_ = 0;  // the disk failed to write them
  uint64_t evicted_ = 0;
  uint64_t jobs_ = 0;
  bool upkeep_scheduled_ = false;
  bool growing_ = false;
  bool evicting_ = false;
  bool commit_scheduled_ = false;
  bool flush_scheduled_ = false;
  std::atomic<bool> closed_{false};
  bool drained_ = true;
  bool given_up_ = false;      // closed, and something is under way still
  unsigned write_errors_ = 0;  // in a row
  Status write_error_;
  std::chrono::steady_clock::time_point writes_stopped_until_ = {};
  std::chrono::steady_clock::time_point growth_stopped_until_ = {};
};

}  // namespace ucm::pages
