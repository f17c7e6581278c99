// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "stages/cache/cache_flow.h"

namespace ucm::stages::cache {

void CacheFlow::act(Work work) {
  for (const Row& row : work.released) row.transfer->task->release_row(row.number);
  submit_copies(work.copies, work.copy_here);
  submit_fetches(work.fetches);
  submit_writes(std::move(work.writes));
  if (!work.removals.empty() && parts_.next) {
    if (Status status = parts_.next->remove(work.removals); !status.ok()) {
      parts_.metrics->failed(status);
    }
  }
  finish(work.finished);
  for (const Row& row : work.hidden) load_hidden(row);
}

// What is here of the block may be all that ever comes (a dump that was broken off): it must not
// hide what the stage below has.
void CacheFlow::load_hidden(const Row& row) {
  uint8_t below = 0;
  const Status asked = parts_.next->lookup({&row.key(), 1}, {&below, 1});
  Work work;
  {
    const Guard guard(this);
    const uint32_t slot = parts_.slots->find(row.key());
    if (below != 0 && slot != SlotTable::kNone && parts_.slots->idle(slot)) {
      parts_.slots->drop(slot);
    }
    if (closed_) {
      work.finished.push_back({row, closed_status()});
    } else if (!asked.ok()) {
      work.finished.push_back({row, asked});
    } else if (below == 0) {
      work.finished.push_back({row, not_stored(row.key())});
    } else if (!admit(row, &work)) {
      waiting_.push(row);
    }
  }
  act(std::move(work));
}

uint32_t CacheFlow::rows_per_job(size_t rows) const {
  const size_t row_bytes = parts_.layout.shard_bytes();
  const size_t pool_bytes = parts_.slots->slots() * parts_.slots->slot_bytes();
  const size_t job_bytes = parts_.copier->job_bytes(rows * row_bytes, pool_bytes);
  return static_cast<uint32_t>(std::max<size_t>(1, job_bytes / row_bytes));
}

void CacheFlow::submit_copies(const std::vector<CopyRow>& copies, size_t copy_here) {
  if (copies.empty()) return;
  const size_t rows = copies.front().row.transfer->keys.size();
  const uint32_t most = rows_per_job(std::max(rows, copies.size()));
  const bool here = std::max(rows, copies.size()) * parts_.layout.shard_bytes() <= copy_here;
  std::vector<CopyRow> job;
  for (const CopyRow& copy : copies) {
    const bool stranger = !job.empty() && job.front().row.transfer != copy.row.transfer;
    if (stranger || job.size() >= most) {
      submit_copy_job(std::move(job), here);
      job.clear();
    }
    job.push_back(copy);
  }
  if (!job.empty()) submit_copy_job(std::move(job), here);
}

void CacheFlow::submit_copy_job(std::vector<CopyRow> rows, bool here) {
  const Transfer* transfer = rows.front().row.transfer;
  std::vector<CopyPiece> pieces;
  pieces.reserve(rows.size() * parts_.layout.pieces());
  for (const CopyRow& row : rows) append_pieces(row, &pieces);
  const std::shared_ptr<std::vector<Digest>> digests = digest_seeds(rows);
  const auto shared_rows = std::make_shared<std::vector<CopyRow>>(std::move(rows));
  transport::CopyJob copy_job;
  copy_job.pieces = std::move(pieces);
  copy_job.event = transfer->event;
  copy_job.on_host = transfer->on_host;
  copy_job.skip = [task = transfer->task] { return task->cancelled(); };
  if (transfer->direction == Direction::load) {
    copy_job.started = [task = transfer->task, shared_rows](Task::Fence fence) {
      std::vector<uint32_t> numbers;
      for (const CopyRow& copy : *shared_rows) numbers.push_back(copy.row.number);
      task->start_rows(numbers, std::move(fence));
    };
  }
  copy_job.digests = digests;
  copy_job.done = [flow = shared_from_this(), shared_rows, digests](const Status& status) {
    for (size_t i = 0; digests && status.ok() && i < digests->size(); ++i) {
      (*shared_rows)[i].digest = (*digests)[i];
    }
    flow->on_copied(*shared_rows, status);
  };
  if (here && parts_.copier->can_digest(transfer->on_host)) {
    parts_.copier->copy_here(transfer->direction, std::move(copy_job));
    return;
  }
  const bool taken = parts_.copier->submit(transfer->direction, std::move(copy_job));
  if (!taken) on_copied(*shared_rows, closed_status());
}

std::shared_ptr<std::vector<Digest>> CacheFlow::digest_seeds(
    const std::vector<CopyRow>& rows) const {
  const Transfer& transfer = *rows.front().row.transfer;
  const bool whole = transfer.direction == Direction::dump && parts_.layout.shards() == 1;
  if (!whole || !parts_.next || !parts_.copier->can_digest(transfer.on_host)) return nullptr;
  auto seeds = std::make_shared<std::vector<Digest>>();
  for (const CopyRow& row : rows) {
    const std::optional<uint64_t> seed = parts_.next->digest_seed(row.row.key());
    if (!seed) return nullptr;
    seeds->push_back({*seed, 0});
  }
  return seeds;
}

void CacheFlow::append_pieces(const CopyRow& copy, std::vector<CopyPiece>* pieces) const {
  const std::vector<size_t>& sizes = parts_.layout.piece_bytes();
  const Transfer& transfer = *copy.row.transfer;
  std::byte* slot =
      parts_.slots->address(copy.slot) + copy.row.shard() * parts_.layout.shard_bytes();
  const uintptr_t* addresses = &transfer.addresses[copy.row.number * sizes.size()];
  for (size_t i = 0; i < sizes.size(); ++i) {
    auto* outside = reinterpret_cast<std::byte*>(addresses[i]);
    if (transfer.direction == Direction::dump) {
      pieces->push_back({slot, outside, sizes[i]});
    } else {
      pieces->push_back({outside, slot, sizes[i]});
    }
    slot += sizes[i];
  }
}

void CacheFlow::submit_fetches(const std::vector<uint32_t>& slots) {
  if (slots.empty()) return;
  SentBatch sent = describe(slots);
  const auto flow = shared_from_this();
  const bool alone = slots.size() == 1 && parts_.slots->slot_bytes() <= kCopyHere;
  send(
      *parts_.next, Direction::load, std::move(sent),
      [flow, slots, alone](uint32_t row, const Status& status) {
        flow->on_landed({slots[row], status, {}, alone});
      },
      [flow, slots, alone] { flow->on_landed({SlotTable::kNone, {}, slots, alone}); });
}

void CacheFlow::submit_writes(std::vector<Write> writes) {
  if (writes.empty()) return;
  std::vector<uint32_t> slots;
  for (const Write& write : writes) slots.push_back(write.slot);
  SentBatch sent = describe(slots);
  const bool known = std::all_of(writes.begin(), writes.end(),
                                 [](const Write& write) { return write.digest.has_value(); });
  for (const Write& write : writes) {
    if (known) sent.digests.push_back(*write.digest);
  }
  const auto flow = shared_from_this();
  const auto shared_writes = std::make_shared<const std::vector<Write>>(std::move(writes));
  send(
      *parts_.next, Direction::dump, std::move(sent),
      [flow, shared_writes](uint32_t row, const Status& status) {
        flow->on_written((*shared_writes)[row], status);
      },
      [flow] { flow->on_write_over(); });
}

SentBatch CacheFlow::describe(const std::vector<uint32_t>& slots) {
  const Guard guard(this);
  ++open_;
  SentBatch sent;
  for (const uint32_t slot : slots) {
    sent.add(parts_.slots->key(slot), reinterpret_cast<uintptr_t>(parts_.slots->address(slot)));
  }
  return sent;
}

void CacheFlow::finish(std::span<const Finished> rows) {
  while (!rows.empty()) {
    const Transfer* transfer = rows.front().row.transfer;
    size_t count = 1;
    while (count < rows.size() && rows[count].row.transfer == transfer) ++count;
    finish_together(rows.first(count));
    rows = rows.subspan(count);
  }
}

void CacheFlow::finish_together(std::span<const Finished> rows) {
  Transfer& transfer = *rows.front().row.transfer;
  const TaskPtr task = transfer.task;  // which outlives the transfer
  std::vector<uint32_t> good;
  good.reserve(rows.size());
  for (const auto& [row, status] : rows) {
    if (status.ok()) {
      good.push_back(row.number);
    } else {
      parts_.metrics->failed(status);
    }
    if (transfer.on_row) transfer.on_row(row.number, status);
  }
  const auto count = static_cast<uint32_t>(rows.size());
  transfer.good_rows.fetch_add(static_cast<uint32_t>(good.size()), std::memory_order_relaxed);
  if (transfer.open_rows.fetch_sub(count, std::memory_order_acq_rel) == count) {
    end_transfer(std::move(transfer.self));
  }
  for (const auto& [row, status] : rows) {
    if (!status.ok()) task->finish_row(row.number, status);
  }
  task->finish_rows(good);
}

void CacheFlow::end_transfer(std::shared_ptr<Transfer> transfer) {
  const size_t good = transfer->good_rows.load(std::memory_order_relaxed);
  const size_t shards = parts_.layout.shards();
  parts_.metrics->transferred(transfer->direction, (good + shards - 1) / shards,
                              good * parts_.layout.shard_bytes(), transfer->watch.seconds());
  const Guard guard(this);
  renew_last_first(transfer->keys);
  for (size_t i = transfer->keys.size(); i > 0 && parts_.shadow; --i) {
    parts_.shadow->used(transfer->keys[i - 1]);
  }
  publish_gauges();
  --open_;
  if (open_ == 0) idle_.notify_all();
}

// Heads of a chain come first; told last, they outlive their tails.
void CacheFlow::renew_last_first(std::span<const BlockKey> keys) {
  std::vector<uint32_t> slots(keys.size());
  parts_.slots->find_batch(keys, slots);
  for (size_t i = keys.size(); i > 0; --i) {
    const uint32_t slot = slots[i - 1];
    if (slot != SlotTable::kNone && parts_.slots->ready(slot)) parts_.slots->renew(slot);
  }
}

void CacheFlow::publish_gauges() {
  StageMetrics& metrics = *parts_.metrics;
  const SlotTable& slots = *parts_.slots;
  metrics.used_bytes().set(static_cast<int64_t>(slots.used() * slots.slot_bytes()));
  metrics.blocks().set(static_cast<int64_t>(slots.ready_blocks()));
  metrics.queue_depth().set(static_cast<int64_t>(waiting_.size()));
  metrics.evicted().add(slots.evicted() - evicted_published_);
  evicted_published_ = slots.evicted();
  metrics.refused_blocks().add(slots.refused() - refused_published_);
  refused_published_ = slots.refused();
  metrics.pinned_blocks().set(static_cast<int64_t>(slots.kept()));
}

}  // namespace ucm::stages::cache
