// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "stages/cache/cache_flow.h"
#include "store/batch_check.h"

namespace ucm::stages::cache {
namespace {

// A layer-wise dump that stopped in the middle (an aborted request) gives its slot to others after
// this long, and only when no other slot is left.
constexpr std::chrono::milliseconds kAbandonedAfter{10000};
// Asking the kernel who is still there takes a system call for each of the others.
constexpr uint32_t kBetweenReaps = 50;  // ms
// Small blocks that wait for slots go on together, and reach the stage below together.
constexpr size_t kGatherBytes = size_t{512} << 10;
// So many rows ahead the index is fetched from memory.
constexpr uint32_t kRowsAhead = 8;

}  // namespace

CacheFlow::CacheFlow(Parts parts)
    : parts_(std::move(parts)),
      gather_(std::max<size_t>(
          1, std::min(kGatherBytes / parts_.slots->slot_bytes(), parts_.slots->slots() / 8))) {}

CacheFlow::Guard::Guard(CacheFlow* flow) : flow_(flow), lock_(flow->mutex_) {
  flow_->parts_.slots->lock();
}

CacheFlow::Guard::~Guard() {
  SlotTable& slots = *flow_->parts_.slots;
  if (slots.shared()) {
    const bool waits = flow_->waits_for_others();
    slots.set_waiting(waits);
    if (waits) flow_->others_wanted_.notify_one();
  }
  slots.unlock();
}

TaskPtr CacheFlow::start(Direction direction, const Batch& batch) {
  const auto rows = static_cast<uint32_t>(batch.rows());
  if (Status status = check_batch(batch, parts_.layout); !status.ok()) {
    parts_.metrics->failed(status);
    return Task::finished(rows, std::move(status));
  }
  const auto transfer = std::make_shared<Transfer>(direction, batch);
  if (rows == 0) return transfer->task;
  transfer->self = transfer;
  transfer->task->on_cancel([flow = weak_from_this(), which = std::weak_ptr<Transfer>(transfer)] {
    const auto alive = flow.lock();
    const auto target = which.lock();
    if (alive && target) alive->cancel_waiting(target.get());
  });
  Work work;
  // A dump that goes further down may meet a storage that hangs: never on the caller's thread.
  if (direction == Direction::load || !parts_.next) work.copy_here = kCopyHere;
  const uint32_t most = rows_per_job(rows);
  uint32_t turn = rows_per_job(1);  // the least, to wake a thread soon
  for (uint32_t first = 0; first < rows; first += std::exchange(turn, most)) {
    {
      const Guard guard(this);
      if (first == 0) ++open_;
      for (uint32_t i = first; i < std::min(rows, first + turn); ++i) {
        if (i + kRowsAhead < rows) parts_.slots->prefetch(transfer->keys[i + kRowsAhead]);
        const Row row{transfer.get(), i};
        if (closed_) {
          work.finished.push_back({row, closed_status()});
        } else if (!admit(row, &work)) {
          waiting_.push(row);
        }
      }
    }
    // Threads wake up and copy while the next rows are admitted.
    submit_copies(work.copies, work.copy_here);
    work.copies.clear();
  }
  act(std::move(work));
  return transfer->task;
}

void CacheFlow::find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  const Guard guard(this);
  parts_.slots->find_ready(keys, present);
}

bool CacheFlow::admit(const Row& row, Work* work) {
  if (row.cancelled()) {
    work->finished.push_back({row, make_status(Code::cancelled, "cache: cancelled")});
    return true;
  }
  return row.direction() == Direction::dump ? admit_dump(row, work) : admit_load(row, work);
}

bool CacheFlow::admit_dump(const Row& row, Work* work) {
  SlotTable& slots = *parts_.slots;
  uint32_t slot = slots.find(row.key());
  if (slot == SlotTable::kNone) {
    slot = acquire(row.key(), SlotState::gathering);
    if (slot == SlotTable::kNone) return false;
  }
  const bool gathering = slots.state(slot) == SlotState::gathering && !slots.doomed(slot);
  // Whoever writes it down may die before it is there.
  const bool unsure = slots.shared() && slots.ready(slot) && slots.writing(slot);
  if (unsure || (!gathering && !slots.ready(slot))) {
    wait_for(row, slot);
    return true;
  }
  // The shards of a row that is there already are one use.
  if (!gathering && row.shard() == 0) slots.touch(slot);
  const ShardState shard = gathering ? slots.claim(slot, row.shard()) : ShardState::copied;
  if (shard == ShardState::copied) {
    work->finished.push_back({row, Status()});
  } else if (shard == ShardState::copying) {
    wait_for(row, slot);
  } else {
    slots.pin(slot);
    work->copies.push_back({row, slot});
  }
  return true;
}

bool CacheFlow::admit_load(const Row& row, Work* work) {
  SlotTable& slots = *parts_.slots;
  uint32_t slot = slots.find(row.key());
  if (slot != SlotTable::kNone && slots.ready(slot)) {
    if (row.shard() == 0) slots.touch(slot);
    slots.pin(slot);
    work->copies.push_back({row, slot});
    return true;
  }
  if (slot != SlotTable::kNone && slots.overdue(slot, parts_.timeout)) {
    // Who asked first has given up; the storage keeps the slot until it answers.
    slots.drop(slot);
    slot = SlotTable::kNone;
  }
  if (slot != SlotTable::kNone &&
      (slots.state(slot) == SlotState::fetching || slots.all_claimed(slot))) {
    wait_for(row, slot);
    return true;
  }
  if (slot != SlotTable::kNone && parts_.next && slots.idle(slot)) {
    work->hidden.push_back(row);
    return true;
  }
  if (slot != SlotTable::kNone || !parts_.next) {
    work->finished.push_back({row, not_stored(row.key())});
    return true;
  }
  slot = acquire(row.key(), SlotState::fetching);
  if (slot == SlotTable::kNone) return false;
  fillings_[slot].waiters.push_back(row);
  work->fetches.push_back(slot);
  return true;
}

uint32_t CacheFlow::acquire(const BlockKey& key, SlotState state) {
  SlotTable& slots = *parts_.slots;
  uint32_t slot = slots.acquire(key, state);
  if (slot == SlotTable::kNone && slots.reclaim_abandoned(kAbandonedAfter)) {
    parts_.metrics->dropped("abandoned");
    slot = slots.acquire(key, state);
  }
  if (slot == SlotTable::kNone) return slot;
  if (state == SlotState::fetching) {
    slots.pin(slot);
  } else {
    const size_t block_bytes = parts_.layout.block_bytes();
    std::memset(slots.address(slot) + block_bytes, 0, parts_.layout.slot_bytes() - block_bytes);
  }
  return slot;
}

void CacheFlow::wait_for(const Row& row, uint32_t slot) {
  const SlotTable& slots = *parts_.slots;
  if (!slots.ready(slot) && slots.pins_here(slot) != 0) {
    fillings_[slot].waiters.push_back(row);
  } else {
    elsewhere_.push(row);
  }
}

bool CacheFlow::look_again() {
  Work work;
  bool waits = false;
  {
    const Guard guard(this);
    if (now_ms() - reaped_ms_ >= kBetweenReaps) {
      reaped_ms_ = now_ms();
      parts_.slots->reap();
    }
    for (const Row& row : elsewhere_.extract([](const Row&) { return true; })) {
      if (closed_) {
        work.finished.push_back({row, closed_status()});
      } else if (!admit(row, &work)) {
        waiting_.push(row);
      }
    }
    pump(&work);
    waits = waits_for_others();
  }
  act(std::move(work));
  return waits;
}

bool CacheFlow::wait_until_waiting() {
  std::unique_lock lock(mutex_);
  others_wanted_.wait(lock, [this] { return stopped_ || waits_for_others(); });
  return !stopped_;
}

void CacheFlow::stop_waiting() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  others_wanted_.notify_all();
  event().signal();
}

// After a block was written. The end of its batch gives what is left over.
void CacheFlow::pump_sometimes(Work* work) {
  if (++written_ >= gather_) pump(work);
}

void CacheFlow::pump(Work* work) {
  written_ = 0;
  while (!waiting_.empty()) {
    const std::vector<Row>& rows = waiting_.front();
    size_t admitted = 0;
    while (admitted < rows.size() && admit(rows[admitted], work)) ++admitted;
    // The first row takes the slot that serves the others, so it is all of them or none; cancelled
    // rows in front of it have ended.
    if (admitted < rows.size()) {
      waiting_.forget_front(admitted);
      break;
    }
    waiting_.pop();
  }
  publish_gauges();
}

void CacheFlow::cancel_waiting(const Transfer* transfer) {
  Work work;
  {
    const Guard guard(this);
    const auto mine = [&](const Row& row) { return row.transfer == transfer; };
    for (WaitingRows* rows : {&waiting_, &elsewhere_}) {
      for (const Row& row : rows->extract(mine)) {
        work.finished.push_back({row, make_status(Code::cancelled, "cache: cancelled")});
      }
    }
  }
  act(std::move(work));
}

void CacheFlow::prefetch(std::span<const BlockKey> keys) {
  if (!parts_.next || !parts_.retain || parts_.layout.empty()) return;
  std::vector<uint8_t> below(keys.size());
  if (!parts_.next->lookup(keys, below).ok()) return;
  Work work;
  {
    const Guard guard(this);
    if (closed_) return;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!below[i] || parts_.slots->find(keys[i]) != SlotTable::kNone) continue;
      const uint32_t slot = acquire(keys[i], SlotState::fetching);
      if (slot == SlotTable::kNone) break;
      work.fetches.push_back(slot);
    }
  }
  act(std::move(work));
}

void CacheFlow::remove(std::span<const BlockKey> keys) {
  Work work;
  {
    const Guard guard(this);
    for (const BlockKey& key : keys) parts_.slots->forget(key);
    pump(&work);
  }
  act(std::move(work));
}

void CacheFlow::renew(std::span<const BlockKey> keys) {
  const Guard guard(this);
  renew_last_first(keys);
}

void CacheFlow::keep(std::span<const BlockKey> keys, std::span<uint8_t> kept) {
  const Guard guard(this);
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint32_t slot = parts_.slots->find(keys[i]);
    kept[i] = slot != SlotTable::kNone && parts_.slots->keep(slot);
  }
  publish_gauges();
}

void CacheFlow::let_go(std::span<const BlockKey> keys) {
  const Guard guard(this);
  for (const BlockKey& key : keys) {
    const uint32_t slot = parts_.slots->find(key);
    if (slot != SlotTable::kNone) parts_.slots->let_go(slot);
  }
  publish_gauges();
}

}  // namespace ucm::stages::cache
