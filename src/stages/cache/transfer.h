// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "store/stage_metrics.h"
#include "ucm/batch.h"
#include "ucm/task.h"

namespace ucm::stages::cache {

// One `load` or `dump` call with its own copy of the batch. It lives until its last row has ended.
struct Transfer {
  Transfer(Direction way, const Batch& batch)
      : direction(way),
        keys(batch.keys.begin(), batch.keys.end()),
        shards(batch.shards.begin(), batch.shards.end()),
        addresses(batch.addresses.begin(), batch.addresses.end()),
        event(batch.event),
        on_host(batch.on_host),
        on_row(batch.on_row),
        open_rows(static_cast<uint32_t>(batch.rows())),
        task(Task::make(static_cast<uint32_t>(batch.rows()))) {}

  const Direction direction;
  const std::vector<BlockKey> keys;
  const std::vector<uint32_t> shards;
  const std::vector<uintptr_t> addresses;
  const uintptr_t event;
  const bool on_host;
  const std::function<void(uint32_t, const Status&)> on_row;
  std::atomic<uint32_t> open_rows;
  std::atomic<uint32_t> good_rows{0};
  const TaskPtr task;
  const Stopwatch watch;
  std::shared_ptr<Transfer> self;  // while rows are under way
};

// A row of a Transfer that is under way, and keeps it alive by being so.
struct Row {
  Transfer* transfer = nullptr;
  uint32_t number = 0;

  Direction direction() const { return transfer->direction; }
  const BlockKey& key() const { return transfer->keys[number]; }
  uint32_t shard() const { return transfer->shards.empty() ? 0 : transfer->shards[number]; }
  bool cancelled() const { return transfer->task->cancelled(); }
};

}  // namespace ucm::stages::cache
