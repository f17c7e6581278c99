// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <vector>

#include "store/batch_check.h"
#include "store/stage.h"
#include "store/stage_metrics.h"

namespace ucm {
namespace {

// Keeps nothing: the floor against which other stages are measured. A dump is done at once, every
// lookup misses, every load fails with not_found. It never touches the caller's memory.
class NullStage : public Store {
 public:
  explicit NullStage(StageContext context)
      : layout_(std::move(context.layout)),
        read_only_(context.read_only),
        metrics_(std::move(context.metrics), "Null") {}
  ~NullStage() override { close(); }

  const BlockLayout& layout() const override { return layout_; }

  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override {
    UCM_TRY(check_open());
    if (present.size() != keys.size()) {
      return make_status(Code::invalid_argument, "null: lookup of %zu keys with %zu answers",
                         keys.size(), present.size());
    }
    std::fill(present.begin(), present.end(), uint8_t{0});
    metrics_.looked_up(keys.size(), 0);
    return {};
  }

  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override {
    UCM_TRY(check_open());
    metrics_.looked_up(keys.size(), 0);
    return size_t{0};
  }

  Status prefetch(std::span<const BlockKey>) override { return check_open(); }

  TaskPtr load(const Batch& batch) override {
    return run(batch, [](const BlockKey& key) {
      return make_status(Code::not_found, "null: block %s: this stage keeps nothing",
                         key.prefix().c_str());
    });
  }

  TaskPtr dump(const Batch& batch) override {
    if (read_only_) {
      return fail(batch, make_status(Code::unsupported, "null: dump into a read-only store"));
    }
    return run(batch, [](const BlockKey&) { return Status(); });
  }

  Status remove(std::span<const BlockKey>) override { return check_open(); }

  // As a storage asks for it, so that what is measured above contains the checksums.
  std::optional<uint64_t> digest_seed(const BlockKey&) const override { return 0; }

  void close() override { closed_.store(true, std::memory_order_relaxed); }

 private:
  Status check_open() const {
    if (!closed_.load(std::memory_order_relaxed)) return {};
    return make_status(Code::unavailable, "null: the store is closed");
  }

  TaskPtr fail(const Batch& batch, Status status) {
    metrics_.failed(status, batch.rows());
    return Task::finished(static_cast<uint32_t>(batch.rows()), std::move(status));
  }

  template <typename Answer>
  TaskPtr run(const Batch& batch, Answer answer) {
    if (Status status = check_open(); !status.ok()) return fail(batch, std::move(status));
    if (Status status = check_batch(batch, layout_); !status.ok()) {
      return fail(batch, std::move(status));
    }
    const TaskPtr task = Task::make(static_cast<uint32_t>(batch.rows()));
    std::vector<uint32_t> good;
    good.reserve(task->rows());
    for (uint32_t row = 0; row < task->rows(); ++row) {
      const Status status = answer(batch.keys[row]);
      if (batch.on_row) batch.on_row(row, status);
      if (status.ok()) {
        good.push_back(row);
      } else {
        task->finish_row(row, status);
      }
    }
    task->finish_rows(good);
    return task;
  }

  const BlockLayout layout_;
  const bool read_only_;
  StageMetrics metrics_;
  std::atomic<bool> closed_{false};
};

Result<StorePtr> make_null_stage(StageContext context) {
  return StorePtr(std::make_unique<NullStage>(std::move(context)));
}

}  // namespace

extern const StageEntry null_stage_entry;
const StageEntry null_stage_entry = {"Null", StageRole::sink, {}, make_null_stage, nullptr};

}  // namespace ucm
