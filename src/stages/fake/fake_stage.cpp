// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <atomic>
#include <limits>

#include "base/option_reader.h"
#include "stages/fake/fake_index.h"
#include "store/batch_check.h"
#include "store/stage.h"
#include "store/stage_metrics.h"

namespace ucm {
namespace {

constexpr std::array<std::string_view, 5> kOptionKeys = {
    "buffer_number", "cache_capacity", "capacity_bytes", "eviction_policy", "pin_limit"};
constexpr uint64_t kDefaultBlocks = 1 << 16;

// Remembers which blocks were dumped and forgets their bytes, to study hit rates at any capacity
// without the memory. A load of a remembered block is ok and leaves the caller's memory as it is.
class FakeStage : public Store {
 public:
  FakeStage(StageContext context, std::unique_ptr<base::EvictionPolicy> policy, uint32_t blocks,
            double pin_limit)
      : layout_(std::move(context.layout)),
        read_only_(context.read_only),
        metrics_(std::move(context.metrics), "Fake"),
        index_(std::move(policy), blocks, layout_.shards(), pin_limit) {
    metrics_.capacity_bytes().set(static_cast<int64_t>(blocks * layout_.block_bytes()));
  }
  ~FakeStage() override { close(); }

  const BlockLayout& layout() const override { return layout_; }

  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override {
    UCM_TRY(check_open());
    if (present.size() != keys.size()) {
      return make_status(Code::invalid_argument, "fake: lookup of %zu keys with %zu answers",
                         keys.size(), present.size());
    }
    size_t hits = 0;
    for (size_t i = 0; i < keys.size(); ++i) {
      present[i] = index_.present(keys[i], false) ? 1 : 0;
      hits += present[i];
    }
    metrics_.looked_up(keys.size(), hits);
    return {};
  }

  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override {
    UCM_TRY(check_open());
    size_t count = 0;
    while (count < keys.size() && index_.present(keys[count], false)) ++count;
    metrics_.looked_up(keys.size(), count);
    return count;
  }

  Status prefetch(std::span<const BlockKey>) override { return check_open(); }

  TaskPtr load(const Batch& batch) override {
    return run(batch, Direction::load, [this](const BlockKey& key, uint32_t) {
      if (index_.present(key, true)) return Status();
      return make_status(Code::not_found, "fake: block %s: not stored", key.prefix().c_str());
    });
  }

  TaskPtr dump(const Batch& batch) override {
    if (read_only_) {
      return fail(batch, make_status(Code::unsupported, "fake: dump into a read-only store"));
    }
    return run(batch, Direction::dump, [this](const BlockKey& key, uint32_t shard) {
      metrics_.evicted().add(index_.add(key, shard));
      return Status();
    });
  }

  Status remove(std::span<const BlockKey> keys) override {
    UCM_TRY(check_open());
    for (const BlockKey& key : keys) index_.remove(key);
    show_usage();
    return {};
  }

  Status renew(std::span<const BlockKey> keys) override {
    UCM_TRY(check_open());
    for (size_t i = keys.size(); i > 0; --i) index_.renew(keys[i - 1]);
    return {};
  }

  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override {
    UCM_TRY(check_open());
    for (size_t i = 0; i < keys.size(); ++i) pinned[i] = index_.pin(keys[i]) ? 1 : 0;
    show_usage();
    return {};
  }
  Status unpin(std::span<const BlockKey> keys) override {
    UCM_TRY(check_open());
    for (const BlockKey& key : keys) index_.unpin(key);
    show_usage();
    return {};
  }

  void close() override { closed_.store(true, std::memory_order_relaxed); }

 private:
  Status check_open() const {
    if (!closed_.load(std::memory_order_relaxed)) return {};
    return make_status(Code::unavailable, "fake: the store is closed");
  }

  TaskPtr fail(const Batch& batch, Status status) {
    metrics_.failed(status, batch.rows());
    return Task::finished(static_cast<uint32_t>(batch.rows()), std::move(status));
  }

  void show_usage() {
    const size_t blocks = index_.size();
    metrics_.blocks().set(static_cast<int64_t>(blocks));
    metrics_.used_bytes().set(static_cast<int64_t>(blocks * layout_.block_bytes()));
    metrics_.pinned_blocks().set(static_cast<int64_t>(index_.pinned()));
  }

  template <typename Answer>
  TaskPtr run(const Batch& batch, Direction direction, Answer answer) {
    if (Status status = check_open(); !status.ok()) return fail(batch, std::move(status));
    if (Status status = check_batch(batch, layout_); !status.ok()) {
      return fail(batch, std::move(status));
    }
    const Stopwatch watch;
    const TaskPtr task = Task::make(static_cast<uint32_t>(batch.rows()));
    size_t moved = 0;
    // From the last row: the head of a chain is used last, so its tail leaves first.
    for (uint32_t row = task->rows(); row-- > 0;) {
      const Status status = answer(batch.keys[row], batch.shard(row));
      if (status.ok()) ++moved;
      if (batch.on_row) batch.on_row(row, status);
      task->finish_row(row, status);
    }
    // Bytes stay 0: none were moved.
    metrics_.transferred(direction, moved, 0, watch.seconds());
    show_usage();
    return task;
  }

  const BlockLayout layout_;
  const bool read_only_;
  StageMetrics metrics_;
  FakeIndex index_;
  std::atomic<bool> closed_{false};
};

Result<uint32_t> read_blocks(const base::OptionReader& reader, const BlockLayout& layout) {
  constexpr uint64_t kUnset = std::numeric_limits<uint64_t>::max();
  uint64_t smallest = kUnset;
  for (const char* key : {"buffer_number", "cache_capacity"}) {
    uint64_t blocks = kUnset;
    UCM_TRY(reader.read(key, &blocks));
    smallest = std::min(smallest, blocks);
  }
  uint64_t bytes = 0;
  UCM_TRY(reader.read("capacity_bytes", &bytes));
  if (bytes > 0 && !layout.empty()) smallest = std::min(smallest, bytes / layout.block_bytes());
  if (smallest == kUnset) smallest = kDefaultBlocks;
  if (smallest < 1 || smallest > 0x7FFFFFFF) {
    return make_status(Code::invalid_argument,
                       "fake: a capacity of %llu blocks; buffer_number, cache_capacity and "
                       "capacity_bytes must leave room for 1 to 2^31 - 1 blocks",
                       static_cast<unsigned long long>(smallest));
  }
  return static_cast<uint32_t>(smallest);
}

Result<StorePtr> make_fake_stage(StageContext context) {
  const base::OptionReader reader(*context.options, "fake");
  UCM_TRY_ASSIGN(const uint32_t blocks, read_blocks(reader, context.layout));
  std::string policy_name = "auto";
  UCM_TRY(reader.read("eviction_policy", &policy_name));
  UCM_TRY_ASSIGN(auto policy, base::make_eviction_policy(policy_name, blocks));
  double pin_limit = 0.5;
  UCM_TRY(reader.read_share("pin_limit", &pin_limit));
  return StorePtr(
      std::make_unique<FakeStage>(std::move(context), std::move(policy), blocks, pin_limit));
}

}  // namespace

extern const StageEntry fake_stage_entry;
const StageEntry fake_stage_entry = {"Fake", StageRole::sink, kOptionKeys, make_fake_stage,
                                     nullptr};

}  // namespace ucm
