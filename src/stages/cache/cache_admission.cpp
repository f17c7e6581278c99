// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "stages/cache/cache_flow.h"
#include "store/batch_check.h"

namespace ucm::stages::cache {
namespace {

// A layer-wise dump that stopped in the middle (an aborted request) gives its slot to others after
// this long, and only when no other slot is left.
constexpr std::chrono::seconds kAbandonedAfter{10};

}  // namespace

TaskPtr CacheFlow::start(Direction direction, const Batch& batch) {
  const auto rows = static_cast<uint32_t>(batch.rows());
  if (Status status = check_batch(batch, parts_.layout); !status.ok()) {
    parts_.metrics->failed(status);
    return Task::finished(rows, std::move(status));
  }
  auto transfer = std::make_shared<Transfer>(direction, batch);
  if (rows == 0) return transfer->task;
  transfer->task->on_cancel([flow = weak_from_this(), which = std::weak_ptr<Transfer>(transfer)] {
    const auto alive = flow.lock();
    const auto target = which.lock();
    if (alive && target) alive->cancel_waiting(target.get());
  });
  Work work;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) {
      return Task::finished(rows, make_status(Code::unavailable, "cache: the store is closed"));
    }
    ++open_;
    for (uint32_t i = 0; i < rows; ++i) {
      const Row row{transfer, i};
      if (!admit(row, &work)) waiting_.push(row);
    }
  }
  act(std::move(work));
  return transfer->task;
}

void CacheFlow::find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  const std::lock_guard lock(mutex_);
  parts_.slots->find_ready(keys, present);
}

bool CacheFlow::admit(const Row& row, Work* work) {
  if (row.cancelled()) {
    work->finished.emplace_back(row, make_status(Code::cancelled, "cache: cancelled"));
    return true;
  }
  return row.direction() == Direction::dump ? admit_dump(row, work) : admit_load(row, work);
}

bool CacheFlow::admit_dump(const Row& row, Work* work) {
  uint32_t slot = parts_.slots->find(row.key());
  if (slot != SlotTable::kNone && parts_.slots->ready(slot)) {
    work->finished.emplace_back(row, Status());
    return true;
  }
  if (slot == SlotTable::kNone) {
    slot = acquire(row.key(), /*from_below=*/false);
    if (slot == SlotTable::kNone) return false;
  }
  Filling& filling = fillings_[slot];
  if (filling.from_below || !filling.failure.ok()) {
    filling.waiters.push_back(row);
    return true;
  }
  ShardState& shard = filling.shards[row.shard()];
  if (shard == ShardState::copied) {
    work->finished.emplace_back(row, Status());
    return true;
  }
  if (shard == ShardState::copying) {
    filling.waiters.push_back(row);
    return true;
  }
  shard = ShardState::copying;
  ++filling.copying;
  parts_.slots->pin(slot);
  work->copies.push_back({row, slot});
  return true;
}

bool CacheFlow::admit_load(const Row& row, Work* work) {
  uint32_t slot = parts_.slots->find(row.key());
  if (slot != SlotTable::kNone && parts_.slots->ready(slot)) {
    parts_.slots->pin(slot);
    work->copies.push_back({row, slot});
    return true;
  }
  if (slot != SlotTable::kNone) {
    Filling& filling = fillings_[slot];
    if (filling.from_below || filling.copied + filling.copying == parts_.layout.shards()) {
      filling.waiters.push_back(row);
      return true;
    }
  }
  if (slot != SlotTable::kNone || !parts_.next) {
    work->finished.emplace_back(row, make_status(Code::not_found, "cache: block %s is not stored",
                                                 row.key().prefix().c_str()));
    return true;
  }
  slot = acquire(row.key(), /*from_below=*/true);
  if (slot == SlotTable::kNone) return false;
  fillings_[slot].waiters.push_back(row);
  work->fetches.push_back(slot);
  return true;
}

uint32_t CacheFlow::acquire(const BlockKey& key, bool from_below) {
  uint32_t slot = parts_.slots->acquire(key);
  if (slot == SlotTable::kNone && reclaim_abandoned()) slot = parts_.slots->acquire(key);
  if (slot == SlotTable::kNone) return slot;
  Filling filling;
  filling.from_below = from_below;
  if (from_below) {
    parts_.slots->pin(slot);
  } else {
    filling.shards.resize(parts_.layout.shards());
    const size_t block_bytes = parts_.layout.block_bytes();
    std::memset(parts_.slots->address(slot) + block_bytes, 0,
                parts_.layout.slot_bytes() - block_bytes);
  }
  fillings_.insert_or_assign(slot, std::move(filling));
  return slot;
}

bool CacheFlow::reclaim_abandoned() {
  const auto now = std::chrono::steady_clock::now();
  for (auto it = fillings_.begin(); it != fillings_.end(); ++it) {
    const Filling& filling = it->second;
    const bool idle = !filling.from_below && filling.copying == 0 && filling.waiters.empty();
    if (!idle || now - filling.since < kAbandonedAfter) continue;
    const uint32_t slot = it->first;
    fillings_.erase(it);
    parts_.slots->drop(slot);
    parts_.metrics->dropped("abandoned");
    return true;
  }
  return false;
}

// Blocks whose other shards can not come any more because the store closes.
void CacheFlow::fail_incomplete(Work* work) {
  std::vector<uint32_t> idle;
  for (auto& [slot, filling] : fillings_) {
    if (filling.from_below || filling.copied + filling.copying == parts_.layout.shards()) continue;
    if (filling.failure.ok()) {
      filling.failure = make_status(Code::unavailable, "cache: the store is closed");
    }
    if (filling.copying == 0) idle.push_back(slot);
  }
  for (const uint32_t slot : idle) fail_filling(slot, work);
}

void CacheFlow::pump(Work* work) {
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
    const std::lock_guard lock(mutex_);
    const auto mine = [&](const Row& row) { return row.transfer.get() == transfer; };
    for (Row& row : waiting_.extract(mine)) {
      work.finished.emplace_back(std::move(row), make_status(Code::cancelled, "cache: cancelled"));
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
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!below[i] || parts_.slots->find(keys[i]) != SlotTable::kNone) continue;
      const uint32_t slot = acquire(keys[i], /*from_below=*/true);
      if (slot == SlotTable::kNone) break;
      work.fetches.push_back(slot);
    }
  }
  act(std::move(work));
}

void CacheFlow::remove(std::span<const BlockKey> keys) {
  Work work;
  {
    const std::lock_guard lock(mutex_);
    for (const BlockKey& key : keys) {
      const uint32_t slot = parts_.slots->find(key);
      if (slot == SlotTable::kNone) continue;
      if (parts_.slots->ready(slot)) {
        parts_.slots->drop(slot);
      } else {
        Filling& filling = fillings_[slot];
        if (filling.failure.ok()) {
          filling.failure = make_status(Code::cancelled, "cache: block %s was removed meanwhile",
                                        key.prefix().c_str());
        }
        if (!filling.from_below && filling.copying == 0) fail_filling(slot, &work);
      }
    }
    pump(&work);
  }
  act(std::move(work));
}

void CacheFlow::keep(std::span<const BlockKey> keys, std::span<uint8_t> kept) {
  const std::lock_guard lock(mutex_);
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint32_t slot = parts_.slots->find(keys[i]);
    kept[i] = slot != SlotTable::kNone && parts_.slots->keep(slot);
  }
  publish_gauges();
}

void CacheFlow::let_go(std::span<const BlockKey> keys) {
  const std::lock_guard lock(mutex_);
  for (const BlockKey& key : keys) {
    const uint32_t slot = parts_.slots->find(key);
    if (slot != SlotTable::kNone) parts_.slots->let_go(slot);
  }
  publish_gauges();
}

void CacheFlow::drain() {
  Work work;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (Row& row : waiting_.extract([](const Row&) { return true; })) {
      work.finished.emplace_back(std::move(row),
                                 make_status(Code::unavailable, "cache: the store is closed"));
    }
    fail_incomplete(&work);
  }
  act(std::move(work));
  std::unique_lock lock(mutex_);
  idle_.wait_for(lock, parts_.timeout, [this] { return open_ == 0; });
}

}  // namespace ucm::stages::cache
