// SPDX-License-Identifier: Apache-2.0
#include "store/guarded.h"

#include <algorithm>
#include <atomic>
#include <mutex>

#include "store/unanswered.h"
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
          std::shared_ptr<base::MetricRegistry> metrics, const Guarding& guarding)
      : stage_(stage),
        operation_(operation),
        metrics_(std::move(metrics)),
        open_(metrics_->gauge("ucm_breaker_open", labels())),
        refused_(metrics_->counter("ucm_breaker_refused_calls_total", labels())),
        clock_(guarding.clock),
        silence_limit_(guarding.silence_limit),
        breaker_(guarding.clock),
        unanswered_(guarding.silence_limit) {}

  // As the breaker says, which hears of a stage that hangs from whoever calls next. While it is
  // open one transfer at a time finds out whether the stage works again.
  bool allows() {
    listen();
    return !probed() && breaker_.allows();
  }
  bool refuses() {
    listen();
    return probed() || breaker_.refuses();
  }
  // It was asked for something and is silent.
  bool hangs() {
    listen();
    return hangs_.load(std::memory_order_relaxed) && breaker_.open();
  }
  Unanswered::Era asked() { return unanswered_.asked(clock_()); }
  void heard() { unanswered_.heard(clock_()); }
  void over(Unanswered::Era era, const Status& outcome) {
    unanswered_.over(era);
    note(outcome);
  }
  void close() { closed_.store(true, std::memory_order_relaxed); }
  // A call was not passed on.
  Status refuse() {
    refused_.add();
    return make_status(Code::unavailable, "%s: %s: kept failing, it is left alone for a while",
                       stage_.c_str(), operation_);
  }
  void note(const Status& status) {
    if (!says_something(status.code()) || closed_.load(std::memory_order_relaxed)) return;
    if (is_of_stage(status.code())) {
      failed(status, 1);
    } else if (breaker_.succeeded()) {
      hangs_.store(false, std::memory_order_relaxed);
      open_.set(0);
      log(LogLevel::warning, "%s: %s: works again", stage_.c_str(), operation_);
    }
  }

 private:
  bool probed() const { return breaker_.open() && unanswered_.any(); }
  void listen() {
    if (!unanswered_.any() || closed_.load(std::memory_order_relaxed)) return;
    if (!unanswered_.gives_up(clock_())) return;
    hangs_.store(true, std::memory_order_relaxed);
    const double seconds = std::chrono::duration<double>(silence_limit_).count();
    failed(make_status(Code::timeout, "no answer for %g s", seconds), Breaker::kFailures);
  }
  void failed(const Status& cause, uint32_t times) {
    if (!breaker_.failed(times)) return;
    open_.set(1);
    log(LogLevel::error,
        "%s: %s: keeps failing and is left alone for a while, the stage above goes on without; "
        "the last cause: %s",
        stage_.c_str(), operation_, cause.to_string().c_str());
  }
  base::Labels labels() const { return {{"stage", stage_}, {"operation", operation_}}; }

  const std::string stage_;
  const char* const operation_;
  const std::shared_ptr<base::MetricRegistry> metrics_;
  base::Gauge& open_;
  base::Counter& refused_;
  const Breaker::Clock clock_;
  const std::chrono::nanoseconds silence_limit_;
  Breaker breaker_;
  Unanswered unanswered_;
  std::atomic<bool> hangs_{false};
  std::atomic<bool> closed_{false};
};
using WatchedPtr = std::shared_ptr<Watched>;

// One transfer, judged when its last row has ended: one good row says that the stage works.
struct Judged {
  Judged(const Batch& batch, WatchedPtr kind)
      : watched(std::move(kind)),
        on_row(batch.on_row),
        rows(batch.rows()),
        era(watched->asked()),
        open(batch.rows()) {}

  void row_ended(uint32_t row, const Status& status) {
    if (status.ok()) {
      any_good = true;
    } else if (const std::lock_guard lock(mutex); failure.ok() || !is_of_stage(failure.code())) {
      failure = status;
    }
    watched->heard();
    if (on_row) on_row(row, status);
    if (open.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      watched->over(era, any_good ? Status() : failure);
    }
  }

  const WatchedPtr watched;
  const std::function<void(uint32_t, const Status&)> on_row;
  const size_t rows;
  const Unanswered::Era era;
  std::atomic<size_t> open;
  std::atomic<bool> any_good{false};
  std::mutex mutex;
  Status failure;
};

class Guarded : public Store {
 public:
  Guarded(StorePtr stage, const std::string& name, std::shared_ptr<base::MetricRegistry> metrics,
          const Guarding& guarding)
      : stage_(std::move(stage)),
        lookups_(std::make_shared<Watched>(name, "lookup", metrics, guarding)),
        loads_(std::make_shared<Watched>(name, "load", metrics, guarding)),
        dumps_(std::make_shared<Watched>(name, "dump", metrics, guarding)) {}
  ~Guarded() override { close(); }

  const BlockLayout& layout() const override { return stage_->layout(); }
  std::optional<uint64_t> digest_seed(const BlockKey& key) const override {
    return stage_->digest_seed(key);
  }

  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override {
    if (loads_->refuses() || !lookups_->allows()) {
      static_cast<void>(lookups_->refuse());
      std::fill(present.begin(), present.end(), uint8_t{0});
      return {};
    }
    return noted(stage_->lookup(keys, present));
  }

  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override {
    if (loads_->refuses() || !lookups_->allows()) {
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
  // A hint: not worth a probe.
  Status renew(std::span<const BlockKey> keys) override {
    return loads_->refuses() || lookups_->refuses() ? Status() : stage_->renew(keys);
  }
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override {
    if (!lookups_->allows()) return lookups_->refuse();
    return noted(stage_->pin(keys, pinned));
  }
  Status unpin(std::span<const BlockKey> keys) override {
    if (!lookups_->allows()) return lookups_->refuse();
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
  // What hangs while it is read is not written to either: each block would keep its memory.
  const bool hangs = direction == Direction::dump && loads_->hangs();
  if (hangs || lookups_->refuses() || !watched->allows()) {
    return Task::finished(static_cast<uint32_t>(batch.rows()), watched->refuse());
  }
  if (batch.rows() == 0)
    return direction == Direction::load ? stage_->load(batch) : stage_->dump(batch);
  const auto judged = std::make_shared<Judged>(batch, watched);
  Batch passed = batch;
  passed.on_row = [judged](uint32_t row, const Status& status) { judged->row_ended(row, status); };
  const TaskPtr task = direction == Direction::load ? stage_->load(passed) : stage_->dump(passed);
  // A batch that is refused as a whole ends without a word about its rows.
  const bool done = task->done();  // asked first: rows that end meanwhile have been heard of
  if (done && judged->open.load(std::memory_order_acquire) == judged->rows) {
    watched->over(judged->era, task->status());
  }
  return task;
}

}  // namespace

StorePtr make_guarded(StorePtr stage, std::string name,
                      std::shared_ptr<base::MetricRegistry> metrics, const Guarding& guarding) {
  return std::make_unique<Guarded>(std::move(stage), name, std::move(metrics), guarding);
}

}  // namespace ucm
