// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "stages/disk/disk_stage.h"
#include "store/batch_check.h"

namespace ucm::disk {

// One load or dump on its way. The page stores' callbacks own it; it never touches the stage,
// which may be gone when the storage answers late.
struct DiskStage::Transfer {
  TaskPtr task;
  std::function<void(uint32_t row, const Status& status)> on_row;
  std::shared_ptr<StageMetrics> metrics;
  Direction direction = Direction::load;
  size_t block_bytes = 0;
  Stopwatch watch;
  mutable std::atomic<size_t> left{0};
  mutable std::atomic<size_t> moved{0};

  // `bytes_moved` is false for a block that was there already.
  void end_row(uint32_t row, const Status& status, bool bytes_moved) const {
    if (!status.ok()) {
      metrics->failed(status);
    } else if (bytes_moved) {
      moved.fetch_add(1, std::memory_order_relaxed);
    }
    metrics->queue_depth().add(-1);
    if (on_row) on_row(row, status);
    if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      const size_t blocks = moved.load(std::memory_order_relaxed);
      if (blocks > 0) {
        metrics->transferred(direction, blocks, blocks * block_bytes, watch.seconds());
      }
    }
    task->finish_row(row, status);
  }
};

namespace {

PageRow page_row(const Batch& batch, size_t row, const BlockLayout& layout) {
  return {.key = batch.keys[row],
          .data = reinterpret_cast<void*>(batch.addresses[row]),
          .bytes = static_cast<uint32_t>(layout.block_bytes()),
          .room = static_cast<uint32_t>(layout.slot_bytes()),
          .row = static_cast<uint32_t>(row),
          .digest = batch.digests.empty() ? std::nullopt : std::optional(batch.digests[row])};
}

// The store that has the block, or their number when it has left meanwhile.
template <typename Stores>
size_t holder_of(const Stores& stores, const BlockKey& key) {
  size_t holder = 0;
  uint8_t present = 0;
  for (; holder < stores.size(); ++holder) {
    stores[holder]->lookup({&key, 1}, {&present, 1});
    if (present) break;
  }
  return holder;
}

}  // namespace

// With several stores the one that will take the block decides, and it is not known yet.
std::optional<uint64_t> DiskStage::digest_seed(const BlockKey& key) const {
  if (reading_only_ || options_.backends.size() != 1) return {};
  const std::shared_lock lock(mutex_);
  return stores_->empty() ? std::nullopt : std::optional(stores_->front()->digest_seed(key));
}

TaskPtr DiskStage::load(const Batch& batch) { return transfer(Direction::load, batch); }

TaskPtr DiskStage::dump(const Batch& batch) {
  const auto rows = static_cast<uint32_t>(batch.rows());
  if (reading_only_ && !closed_ && !layout_.empty()) {
    return Task::finished(rows, make_status(Code::unsupported, "disk: opened for reading only"));
  }
  return transfer(Direction::dump, batch);
}

TaskPtr DiskStage::transfer(Direction direction, const Batch& batch) {
  const auto rows = static_cast<uint32_t>(batch.rows());
  Status status = check_open();
  if (status.ok()) status = check_batch(batch, layout_);
  if (!status.ok()) {
    metrics_->failed(status, rows);
    return Task::finished(rows, std::move(status));
  }
  auto moving = std::make_shared<Transfer>();
  moving->task = Task::make(rows);
  moving->on_row = batch.on_row;
  moving->metrics = metrics_;
  moving->direction = direction;
  moving->block_bytes = layout_.block_bytes();
  moving->left = rows;
  metrics_->queue_depth().add(rows);
  // Tails first, as their uses are noted everywhere.
  for (size_t row = shadow_ ? rows : 0; row-- > 0;) shadow_->used(batch.keys[row]);
  const auto all = stores();
  RowsPerStore routed(all->size());
  if (direction == Direction::load) {
    route_load(*all, *moving, batch, &routed);
  } else {
    route_dump(*all, *moving, batch, &routed);
  }
  const PageRowDone done = [moving](uint32_t row, const Status& row_status) {
    moving->end_row(row, row_status, true);
  };
  for (size_t i = 0; i < routed.size(); ++i) {
    if (routed[i].empty()) continue;
    if (direction == Direction::load) {
      (*all)[i]->load(routed[i], done, moving->task);
    } else {
      (*all)[i]->dump(routed[i], done, moving->task);
    }
  }
  return moving->task;
}

void DiskStage::route_load(const Stores& stores, const Transfer& moving, const Batch& batch,
                           RowsPerStore* rows) {
  // With one store its own answer is the exact one; with several the first that has the block.
  std::vector<size_t> home(batch.rows(), stores.size() == 1 ? 0 : stores.size());
  std::vector<uint8_t> present(batch.rows());
  for (size_t i = stores.size() > 1 ? stores.size() : 0; i-- > 0;) {
    stores[i]->lookup(batch.keys, present);
    for (size_t row = 0; row < home.size(); ++row) {
      if (present[row]) home[row] = i;
    }
  }
  for (size_t row = 0; row < home.size(); ++row) {
    if (home[row] < stores.size()) {
      (*rows)[home[row]].push_back(page_row(batch, row, layout_));
    } else {
      moving.end_row(static_cast<uint32_t>(row),
                     make_status(Code::not_found, "disk: block %s is not stored",
                                 batch.keys[row].prefix().c_str()),
                     false);
    }
  }
}

void DiskStage::route_dump(const Stores& stores, const Transfer& moving, const Batch& batch,
                           RowsPerStore* rows) {
  std::vector<uint8_t> present(batch.rows());
  lookup_in(stores, batch.keys, present);
  std::vector<BlockKey> used;
  for (size_t row = batch.rows(); row-- > 0;) {
    // Tails first, so that the head of a chain is the most recent one.
    if (present[row]) used.push_back(batch.keys[row]);
  }
  if (!used.empty()) {
    for (const auto& store : stores) store->touch(used);
  }
  for (size_t row = 0; row < batch.rows(); ++row) {
    if (present[row] && options_.pages.durability != Durability::strict) {
      moving.end_row(static_cast<uint32_t>(row), Status(), false);
      continue;
    }
    if (present[row]) {
      // Whether it is on the disk as well is known to the store that holds it.
      const size_t holder = holder_of(stores, batch.keys[row]);
      if (holder < stores.size()) {
        (*rows)[holder].push_back(page_row(batch, row, layout_));
        continue;
      }
    }
    if (stores.empty()) {  // closed a moment ago
      moving.end_row(static_cast<uint32_t>(row), check_open(), false);
      continue;
    }
    const uint64_t pick = options_.round_robin ? next_backend_.fetch_add(1) : mix(batch.keys[row]);
    (*rows)[pick % stores.size()].push_back(page_row(batch, row, layout_));
  }
}

}  // namespace ucm::disk
