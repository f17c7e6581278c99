// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "stages/cache/cache_flow.h"

namespace ucm::stages::cache {

void CacheFlow::on_copied(const std::vector<CopyRow>& rows, const Status& status) {
  Work work;
  for (const CopyRow& copied : rows) parts_.slots->prefetch(copied.slot);
  {
    const Guard guard(this);
    for (const CopyRow& copied : rows) {
      if (copied.row.direction() == Direction::dump) {
        shard_copied(copied, status, &work);
      } else {
        parts_.slots->unpin(copied.slot);
        work.finished.push_back({copied.row, status});
      }
    }
    pump(&work);
  }
  act(std::move(work));
}

void CacheFlow::shard_copied(const CopyRow& copied, const Status& status, Work* work) {
  SlotTable& slots = *parts_.slots;
  const uint32_t slot = copied.slot;
  if (!status.ok() || slots.doomed(slot)) {
    shard_failed(copied, status, work);
    return;
  }
  if (slots.set_copied(slot, copied.row.shard())) {
    complete_dump(copied, work);
  } else {
    // Staged; the row that completes the block carries its durability.
    work->finished.push_back({copied.row, {}});
    finish_twins(copied, work);
    if (slots.pins_here(slot) == 1) {
      // The others who copy shards of the block are other processes.
      for (const Row& waiter : take_filling(slot).waiters) elsewhere_.push(waiter);
    }
  }
  slots.unpin(slot);
}

void CacheFlow::shard_failed(const CopyRow& copied, const Status& status, Work* work) {
  SlotTable& slots = *parts_.slots;
  const uint32_t slot = copied.slot;
  Filling& filling = fillings_[slot];
  if (filling.failure.ok()) {
    filling.failure = !status.ok() ? status
                                   : make_status(Code::cancelled,
                                                 "cache: block %s was removed meanwhile, or "
                                                 "somebody else failed to copy his part of it",
                                                 copied.row.key().prefix().c_str());
  }
  work->finished.push_back({copied.row, filling.failure});
  if (!slots.dropped(slot)) {
    slots.unclaim(slot, copied.row.shard());
    slots.doom(slot);
  }
  slots.unpin(slot);
  if (slots.pins_here(slot) != 0) return;
  const Filling ended = take_filling(slot);
  release_waiters(ended.waiters, slot, ended.failure, work);
}

// Dumps of the same shard of the same block, which waited for the copy that has just ended.
void CacheFlow::finish_twins(const CopyRow& copied, Work* work) {
  const auto filling = fillings_.find(copied.slot);
  if (filling == fillings_.end()) return;
  const uint32_t shard = copied.row.shard();
  std::erase_if(filling->second.waiters, [&](const Row& waiter) {
    const bool twin = waiter.direction() == Direction::dump && waiter.shard() == shard;
    if (twin) work->finished.push_back({waiter, {}});
    return twin;
  });
}

CacheFlow::Filling CacheFlow::take_filling(uint32_t slot) {
  if (fillings_.empty()) return {};
  auto node = fillings_.extract(slot);
  return node.empty() ? Filling() : std::move(node.mapped());
}

void CacheFlow::complete_dump(const CopyRow& last, Work* work) {
  const uint32_t slot = last.slot;
  parts_.slots->make_ready(slot);
  std::vector<Row> dumps;
  std::vector<Row> loads;
  for (const Row& waiter : take_filling(slot).waiters) {
    (waiter.direction() == Direction::dump ? dumps : loads).push_back(waiter);
  }
  release_waiters(loads, slot, Status(), work);
  if (parts_.next) {
    parts_.slots->pin(slot);
    parts_.slots->set_writing(slot, true);
    work->released.push_back(last.row);
    work->released.insert(work->released.end(), dumps.begin(), dumps.end());
    work->writes.push_back({slot, last.digest, last.row, std::move(dumps)});
    return;
  }
  work->finished.push_back({last.row, {}});
  for (const Row& row : dumps) work->finished.push_back({row, {}});
}

// Storage threads have better things to do than this: they only say what has come. A thread that
// copies takes what has gathered until it wakes up, and copies it at once.
void CacheFlow::on_landed(Landed landed) {
  const bool alone = landed.alone;
  {
    const std::lock_guard lock(landed_mutex_);
    landed_.push_back(std::move(landed));
    if (std::exchange(landing_, true)) return;
  }
  const bool on_host = parts_.copier->can_digest(false);
  if (on_host && !alone && parts_.copier->run([flow = shared_from_this()] { flow->land(); }))
    return;
  land();
}

void CacheFlow::land() {
  bool more = true;
  while (more) {
    Work work;
    {
      const Guard guard(this);
      more = take_landed(&work);
    }
    // Another thread goes on with the rest while this one copies.
    const bool on_host = parts_.copier->can_digest(false);
    if (on_host) work.copy_here = SIZE_MAX;
    if (more && on_host && parts_.copier->run([flow = shared_from_this()] { flow->land(); })) {
      more = false;
    }
    act(std::move(work));
  }
}

// About as much as a copy job has, in the order it came. True: there is more.
bool CacheFlow::take_landed(Work* work) {
  const size_t slot_bytes = parts_.slots->slot_bytes();
  const std::lock_guard lock(landed_mutex_);
  const size_t most = parts_.copier->job_bytes(landed_.size() * slot_bytes, SIZE_MAX);
  bool room = false;
  for (size_t bytes = 0; !landed_.empty() && bytes < most; landed_.pop_front()) {
    const Landed& landed = landed_.front();
    if (landed.slot != SlotTable::kNone) {
      complete_fetch(landed.slot, landed.status, work);
      room = room || !landed.status.ok();
      bytes += slot_bytes;
      continue;
    }
    for (const uint32_t slot : landed.batch) parts_.slots->unpin(slot);
    end_batch(work);
    room = false;
  }
  if (room) pump(work);
  landing_ = !landed_.empty();
  return landing_;
}

void CacheFlow::complete_fetch(uint32_t slot, const Status& status, Work* work) {
  const Status outcome = parts_.slots->doomed(slot)
                             ? make_status(Code::cancelled, "cache: block %s was removed meanwhile",
                                           parts_.slots->key(slot).prefix().c_str())
                             : status;
  if (outcome.ok()) {
    parts_.slots->make_ready(slot);
  } else {
    // A failed load leaves no trace: the next lookup asks the stage below again.
    parts_.slots->drop(slot);
  }
  release_waiters(take_filling(slot).waiters, slot, outcome, work);
}

void CacheFlow::release_waiters(const std::vector<Row>& waiters, uint32_t slot,
                                const Status& status, Work* work) {
  for (const Row& waiter : waiters) {
    if (waiter.direction() == Direction::load) {
      if (status.ok()) {
        parts_.slots->pin(slot);
        work->copies.push_back({waiter, slot});
      } else {
        work->finished.push_back({waiter, status});
      }
    } else if (status.ok()) {
      work->finished.push_back({waiter, {}});
    } else if (!admit(waiter, work)) {
      // What this dump waited for failed, so its own bytes are needed after all.
      waiting_.push(waiter);
    }
  }
}

void CacheFlow::end_batch(Work* work) {
  pump(work);
  --open_;
  if (open_ == 0) idle_.notify_all();
}

void CacheFlow::on_write_over() {
  Work work;
  {
    const Guard guard(this);
    end_batch(&work);
  }
  act(std::move(work));
}

void CacheFlow::on_written(const Write& write, const Status& status) {
  Work work;
  {
    const Guard guard(this);
    work.finished.push_back({write.row, status});
    for (const Row& row : write.others) work.finished.push_back({row, status});
    parts_.slots->set_writing(write.slot, false);
    if (parts_.slots->dropped(write.slot)) work.removals.push_back(parts_.slots->key(write.slot));
    // Not kept when it is not stored below: a later dump would be done without being written.
    if (!status.ok()) parts_.slots->drop(write.slot);
    parts_.slots->unpin(write.slot);
    pump_sometimes(&work);
  }
  act(std::move(work));
}

}  // namespace ucm::stages::cache
