// SPDX-License-Identifier: Apache-2.0
#include "store/ladder.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "store/lent_stage.h"
#include "store/sent_batch.h"

namespace ucm {
namespace {

// One load or dump through both stages.
struct Passage {
  explicit Passage(const Batch& batch)
      : keys(batch.keys.begin(), batch.keys.end()),
        addresses(batch.addresses.begin(), batch.addresses.end()),
        on_row(batch.on_row),
        task(Task::make(static_cast<uint32_t>(batch.rows()))) {}

  SentBatch part(const std::vector<uint32_t>& rows) const {
    SentBatch sent;
    for (const uint32_t row : rows) sent.add(keys[row], addresses[row]);
    return sent;
  }
  void report(uint32_t row, const Status& status) const {
    if (on_row) on_row(row, status);
  }

  const std::vector<BlockKey> keys;
  const std::vector<uintptr_t> addresses;
  const std::function<void(uint32_t, const Status&)> on_row;
  const TaskPtr task;
};
using PassagePtr = std::shared_ptr<Passage>;

// The rows of one part of a passage that went wrong or right, gathered from several threads.
struct RowList {
  std::mutex mutex;
  std::vector<uint32_t> rows;
  void add(uint32_t row) {
    const std::lock_guard lock(mutex);
    rows.push_back(row);
  }
};

// The two stages, for callbacks that may come when the ladder has gone.
struct Rungs {
  std::shared_ptr<LentStage> upper;
  std::shared_ptr<LentStage> lower;
};

// The caller keeps the rows' memory until the task is done, so they can be written up from it.
void promote(const Rungs& rungs, const PassagePtr& passage, std::vector<uint32_t> rows) {
  if (rows.empty()) return;
  SentBatch sent = passage->part(rows);
  send(
      *rungs.upper, Direction::dump, std::move(sent),
      [passage, rows](uint32_t index, const Status&) {
        passage->task->finish_row(rows[index], Status());
      },
      [] {});
}

void load_lower(const Rungs& rungs, const PassagePtr& passage, std::vector<uint32_t> rows) {
  if (rows.empty()) return;
  const auto loaded = std::make_shared<RowList>();
  SentBatch sent = passage->part(rows);
  send(
      *rungs.lower, Direction::load, std::move(sent),
      [passage, loaded, rows](uint32_t index, const Status& status) {
        passage->report(rows[index], status);
        if (status.ok()) {
          loaded->add(rows[index]);
        } else {
          passage->task->finish_row(rows[index], status);
        }
      },
      [rungs, passage, loaded] { promote(rungs, passage, std::move(loaded->rows)); });
}

void load_upper(const Rungs& rungs, const PassagePtr& passage, std::vector<uint32_t> rows) {
  if (rows.empty()) return;
  const auto failed = std::make_shared<RowList>();
  SentBatch sent = passage->part(rows);
  send(
      *rungs.upper, Direction::load, std::move(sent),
      [passage, failed, rows](uint32_t index, const Status& status) {
        if (!status.ok()) {
          failed->add(rows[index]);
          return;
        }
        passage->report(rows[index], status);
        passage->task->finish_row(rows[index], status);
      },
      [rungs, passage, failed] { load_lower(rungs, passage, std::move(failed->rows)); });
}

class Ladder : public Store {
 public:
  Ladder(StorePtr upper, StorePtr lower, std::shared_ptr<base::Counter> partial_lookups)
      : upper_(std::make_shared<LentStage>(std::move(upper))),
        lower_(std::make_shared<LentStage>(std::move(lower))),
        partial_lookups_(std::move(partial_lookups)) {}
  ~Ladder() override {
    close();
    upper_->take_back();
    lower_->take_back();
  }

  const BlockLayout& layout() const override { return upper_->layout(); }
  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override;
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override;
  Status prefetch(std::span<const BlockKey>) override { return {}; }
  TaskPtr load(const Batch& batch) override;
  TaskPtr dump(const Batch& batch) override;
  Status remove(std::span<const BlockKey> keys) override;
  Status renew(std::span<const BlockKey> keys) override;
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override;
  Status unpin(std::span<const BlockKey> keys) override;
  void close() override {
    upper_->close();
    lower_->close();
  }

 private:
  // Of a lookup: what was found counts, although not every stage could be asked.
  Status outcome(const Status& failure, bool found);

  const std::shared_ptr<LentStage> upper_;
  const std::shared_ptr<LentStage> lower_;
  const std::shared_ptr<base::Counter> partial_lookups_;
};

Status Ladder::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  const Status above = upper_->lookup(keys, present);
  if (!above.ok()) std::fill(present.begin(), present.end(), uint8_t{0});
  std::vector<BlockKey> missing;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!present[i]) missing.push_back(keys[i]);
  }
  if (missing.empty()) return above;
  std::vector<uint8_t> answers(missing.size());
  const Status below = lower_->lookup(missing, answers);
  if (below.ok()) {
    for (size_t i = 0, j = 0; i < keys.size(); ++i) {
      if (!present[i]) present[i] = answers[j++];
    }
  }
  const bool found = std::any_of(present.begin(), present.end(), [](uint8_t yes) { return yes; });
  return outcome(above.ok() ? below : above, found);
}

Result<size_t> Ladder::lookup_prefix(std::span<const BlockKey> keys) {
  size_t count = 0;
  Status failure;
  // How many of the next keys a stage has; none when it can not say.
  const auto count_in = [&](Store& stage) {
    const auto found = stage.lookup_prefix(keys.subspan(count));
    if (!found.ok()) failure = found.status();
    return found.ok() ? found.value() : 0;
  };
  while (count < keys.size() && failure.ok()) {
    count += count_in(*upper_);
    if (count == keys.size()) break;
    const size_t below = count_in(*lower_);
    if (below == 0) break;
    count += below;
  }
  UCM_TRY(outcome(failure, count > 0));
  return count;
}

Status Ladder::outcome(const Status& failure, bool found) {
  if (failure.ok() || !found) return failure;
  partial_lookups_->add();
  return {};
}

TaskPtr Ladder::load(const Batch& batch) {
  const auto passage = std::make_shared<Passage>(batch);
  std::vector<uint8_t> present(batch.rows());
  if (!upper_->lookup(batch.keys, present).ok()) std::fill(present.begin(), present.end(), 0);
  std::vector<uint32_t> above;
  std::vector<uint32_t> below;
  for (uint32_t row = 0; row < present.size(); ++row) {
    (present[row] ? above : below).push_back(row);
  }
  const Rungs rungs = {upper_, lower_};
  load_upper(rungs, passage, std::move(above));
  load_lower(rungs, passage, std::move(below));
  return passage->task;
}

TaskPtr Ladder::dump(const Batch& batch) {
  struct Pair {
    std::atomic<uint32_t> open{2};
    std::atomic<bool> stored{false};
    Status failure;
    std::mutex mutex;
  };
  const auto passage = std::make_shared<Passage>(batch);
  const auto pairs = std::make_shared<std::vector<Pair>>(batch.rows());
  SentBatch all;
  for (size_t row = 0; row < passage->keys.size(); ++row) {
    all.add(passage->keys[row], passage->addresses[row]);
  }
  const auto on_row = [passage, pairs](uint32_t row, const Status& status) {
    Pair& pair = (*pairs)[row];
    if (status.ok()) {
      pair.stored = true;
    } else {
      const std::lock_guard lock(pair.mutex);
      pair.failure = status;
    }
    if (pair.open.fetch_sub(1) != 1) return;
    const Status outcome = pair.stored ? Status() : pair.failure;
    passage->report(row, outcome);
    passage->task->finish_row(row, outcome);
  };
  send(*lower_, Direction::dump, all, on_row, [] {});
  send(*upper_, Direction::dump, std::move(all), on_row, [] {});
  return passage->task;
}

Status Ladder::remove(std::span<const BlockKey> keys) {
  Status above = upper_->remove(keys);
  Status below = lower_->remove(keys);
  return above.ok() ? below : above;
}

Status Ladder::renew(std::span<const BlockKey> keys) {
  Status above = upper_->renew(keys);
  Status below = lower_->renew(keys);
  return above.ok() ? below : above;
}

// A stage that can not be asked keeps nothing; what the other one keeps is kept.
Status Ladder::pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) {
  const Status above = upper_->pin(keys, pinned);
  if (!above.ok()) std::fill(pinned.begin(), pinned.end(), uint8_t{0});
  std::vector<uint8_t> answers(keys.size());
  const Status below = lower_->pin(keys, answers);
  for (size_t i = 0; i < keys.size() && below.ok(); ++i) pinned[i] |= answers[i];
  const bool any = std::any_of(pinned.begin(), pinned.end(), [](uint8_t yes) { return yes; });
  if (any) return {};
  return above.ok() ? below : above;
}

Status Ladder::unpin(std::span<const BlockKey> keys) {
  Status above = upper_->unpin(keys);
  Status below = lower_->unpin(keys);
  return above.ok() ? below : above;
}

}  // namespace

StorePtr make_ladder(StorePtr upper, StorePtr lower,
                     std::shared_ptr<base::Counter> partial_lookups) {
  return std::make_unique<Ladder>(std::move(upper), std::move(lower), std::move(partial_lookups));
}

}  // namespace ucm
