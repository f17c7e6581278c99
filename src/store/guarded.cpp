// SPDX-License-Identifier: Apache-2.0
#include "store/guarded.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "ucm/log.h"

namespace ucm {
namespace {

// Says that the stage does not work; all others are about single blocks, or answers it has given.
bool is_of_stage(Code code) {
  return code == Code::timeout || code == Code::io_error || code == Code::unavailable;
}

// A call that was called off or is not allowed here has neither failed nor succeeded.
bool says_something(Code code) {
  return code != Code::cancelled && code != Code::unsupported && code != Code::invalid_argument;
}

// What one kind of call has come to. Shared with transfers, which may outlive the stage.
class Watched {
 public:
  Watched(const std::string& stage, const char* operation,
          std::shared_ptr<base::MetricRegistry> metrics, Breaker::Clock clock)
      : stage_(stage),
        operation_(operation),
        metrics_(std::move(metrics)),
        open_(metrics_->gauge("ucm_breaker_open", labels())),
        refused_(metrics_->counter("ucm_breaker_refused_calls_total", labels())),
        breaker_(std::move(clock)) {}

  Breaker& breaker() { return breaker_; }
  void close() { closed_.store(true, std::memory_order_relaxed); }
  // A call was not passed on.
  Status refuse() {
    refused_.add();
    return make_status(Code::unavailable, "%s: %s: kept failing, it is left alone for a while",
                       stage_.c_str(), operation_);
  }
  void note(const Status& status) {
    if (!says_something(status.code()) || closed_.load(std::memory_order_relaxed)) return;
    if (!is_of_stage(status.code())) {
      if (!breaker_.succeeded()) return;
      open_.set(0);
      log(LogLevel::warning, "%s: %s: works again", stage_.c_str(), operation_);
    } else if (breaker_.failed()) {
      open_.set(1);
      log(LogLevel::error,
          "%s: %s: keeps failing and is left alone for a while, the stage above goes on without; "
          "the last cause: %s",
          stage_.c_str(), operation_, status.to_string().c_str());
    }
  }

 private:
  base::Labels labels() const { return {{"stage", stage_}, {"operation", operation_}}; }

  const std::string stage_;
  const char* const operation_;
  const std::shared_ptr<base::MetricRegistry> metrics_;
  base::Gauge& open_;
  base::Counter& refused_;
  Breaker breaker_;
  std::atomic<bool> closed_{false};
};
using WatchedPtr = std::shared_ptr<Watched>;

// One transfer, judged when its last row has ended: one good row says that the stage works.
struct Judged {
  Judged(const Batch& batch, WatchedPtr kind)
      : watched(std::move(kind)), on_row(batch.on_row), rows(batch.rows()), open(batch.rows()) {}

  void row_ended(uint32_t row, const Status& status) {
    if (status.ok()) {
      any_good = true;
    } else if (const std::lock_guard lock(mutex); failure.ok() || !is_of_stage(failure.code())) {
      failure = status;
    }
    if (on_row) on_row(row, status);
    if (open.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      watched->note(any_good ? Status() : failure);
    }
  }

  const WatchedPtr watched;
  const std::function<void(uint32_t, const Status&)> on_row;
  const size_t rows;
  std::atomic<size_t> open;
  std::atomic<bool> any_good{false};
  std::mutex mutex;
  Status failure;
};

class Guarded : public Store {
 public:
  Guarded(StorePtr stage, const std::string& name, std::shared_ptr<base::MetricRegistry> metrics,
          const Breaker::Clock& clock)
      : stage_(std::move(stage)),
        lookups_(std::make_shared<Watched>(name, "lookup", metrics, clock)),
        loads_(std::make_shared<Watched>(name, "load", metrics, clock)),
        dumps_(std::make_shared<Watched>(name, "dump", metrics, clock)) {}
  ~Guarded() override { close(); }

  const BlockLayout& layout() const override { return stage_->layout(); }
  std::optional<uint64_t> digest_seed(const BlockKey& key) const override {
    return stage_->digest_seed(key);
  }

  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override {
    if (loads_->breaker().refuses() || !lookups_->breaker().allows()) {
      static_cast<void>(lookups_->refuse());
      std::fill(present.begin(), present.end(), uint8_t{0});
      return {};
    }
    return noted(stage_->lookup(keys, present));
  }

  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override {
    if (loads_->breaker().refuses() || !lookups_->breaker().allows()) {
      static_cast<void>(lookups_->refuse());
      return size_t{0};
    }
    auto count = stage_->lookup_prefix(keys);
    lookups_->note(count.status());
    return count;
  }

  Status prefetch(std::span<const BlockKey> keys) override { return stage_->prefetch(keys); }
  TaskPtr load(const Batch& batch) override { return transfer(Direction::load, batch); }
  TaskPtr dump(const Batch& batch) override { return transfer(Direction::dump, batch); }

  // Always tried: the block may be wrong.
  Status remove(std::span<const BlockKey> keys) override { return noted(stage_->remove(keys)); }
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override {
    if (!lookups_->breaker().allows()) return lookups_->refuse();
    return noted(stage_->pin(keys, pinned));
  }
  Status unpin(std::span<const BlockKey> keys) override {
    if (!lookups_->breaker().allows()) return lookups_->refuse();
    return noted(stage_->unpin(keys));
  }
  void close() override {
    for (const WatchedPtr& watched : {lookups_, loads_, dumps_}) watched->close();
    stage_->close();
  }

 private:
  Status noted(Status status) {
    lookups_->note(status);
    return status;
  }
  TaskPtr transfer(Direction direction, const Batch& batch);

  const StorePtr stage_;
  const WatchedPtr lookups_;
  const WatchedPtr loads_;
  const WatchedPtr dumps_;
};

TaskPtr Guarded::transfer(Direction direction, const Batch& batch) {
  const WatchedPtr& watched = direction == Direction::load ? loads_ : dumps_;
  if (lookups_->breaker().refuses() || !watched->breaker().allows()) {
    return Task::finished(static_cast<uint32_t>(batch.rows()), watched->refuse());
  }
  const auto judged = std::make_shared<Judged>(batch, watched);
  Batch passed = batch;
  passed.on_row = [judged](uint32_t row, const Status& status) { judged->row_ended(row, status); };
  const TaskPtr task = direction == Direction::load ? stage_->load(passed) : stage_->dump(passed);
  // A batch that is refused as a whole ends without a word about its rows.
  const bool done = task->done();  // asked first: rows that end meanwhile have been heard of
  if (done && judged->rows > 0 && judged->open.load(std::memory_order_acquire) == judged->rows) {
    watched->note(task->status());
  }
  return task;
}

}  // namespace

StorePtr make_guarded(StorePtr stage, std::string name,
                      std::shared_ptr<base::MetricRegistry> metrics, Breaker::Clock clock) {
  return std::make_unique<Guarded>(std::move(stage), name, std::move(metrics), clock);
}

}  // namespace ucm
