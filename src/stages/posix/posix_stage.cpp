// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "stages/posix/posix_engine.h"
#include "stages/posix/posix_inspect.h"
#include "store/batch_check.h"
#include "store/stage.h"

namespace ucm {
namespace {

// File per block, for shared and network file systems: the Store face of a PosixEngine.
class PosixStage : public Store {
 public:
  PosixStage(BlockLayout layout, bool read_only, std::shared_ptr<StageMetrics> metrics,
             std::shared_ptr<posix::PosixEngine> engine)
      : layout_(std::move(layout)),
        read_only_(read_only),
        metrics_(std::move(metrics)),
        engine_(std::move(engine)) {}
  ~PosixStage() override { close(); }

  const BlockLayout& layout() const override { return layout_; }

  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override {
    if (present.size() != keys.size()) {
      return make_status(Code::invalid_argument, "posix: lookup of %zu keys with %zu answers",
                         keys.size(), present.size());
    }
    return engine_->lookup(keys, present);
  }

  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override {
    return engine_->lookup_prefix(keys);
  }

  // There is nothing faster below the caller's own cache.
  Status prefetch(std::span<const BlockKey>) override { return {}; }

  TaskPtr load(const Batch& batch) override { return transfer(Direction::load, batch, {}); }

  TaskPtr dump(const Batch& batch) override {
    Status refusal;
    if (read_only_) {
      refusal = make_status(Code::unsupported, "posix: dump into a read-only store");
    }
    return transfer(Direction::dump, batch, std::move(refusal));
  }

  std::optional<uint64_t> digest_seed(const BlockKey&) const override {
    return posix::kPayloadSeed;
  }

  Status remove(std::span<const BlockKey> keys) override {
    if (read_only_) {
      return make_status(Code::unsupported, "posix: remove from a read-only store");
    }
    return engine_->remove(keys);
  }

  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override {
    if (read_only_) return make_status(Code::unsupported, "posix: pin in a read-only store");
    return engine_->mark_pinned(keys, true, pinned);
  }
  Status unpin(std::span<const BlockKey> keys) override {
    if (read_only_) return make_status(Code::unsupported, "posix: unpin in a read-only store");
    std::vector<uint8_t> answers(keys.size());
    return engine_->mark_pinned(keys, false, answers);
  }

  void close() override { engine_->close(); }

 private:
  TaskPtr transfer(Direction direction, const Batch& batch, Status refusal) {
    if (refusal.ok()) refusal = check_batch(batch, layout_);
    if (refusal.ok()) refusal = check_alignment(batch);
    if (refusal.ok()) return engine_->submit(direction, batch);
    metrics_->failed(refusal, batch.rows());
    return Task::finished(static_cast<uint32_t>(batch.rows()), std::move(refusal));
  }

  static Status check_alignment(const Batch& batch) {
    const auto odd = std::find_if(batch.addresses.begin(), batch.addresses.end(),
                                  [](uintptr_t address) { return address % kAlign != 0; });
    if (odd == batch.addresses.end()) return {};
    return make_status(Code::invalid_argument,
                       "posix: row %zu is not aligned to %zu bytes; put a Cache in front",
                       static_cast<size_t>(odd - batch.addresses.begin()), kAlign);
  }

  const BlockLayout layout_;
  const bool read_only_;
  const std::shared_ptr<StageMetrics> metrics_;
  const std::shared_ptr<posix::PosixEngine> engine_;
};

Status check_quota(const posix::PosixOptions& options, const BlockLayout& layout) {
  if (options.quotas.empty() || layout.empty()) return {};
  const uint64_t quota = options.quotas.bytes(options.quotas.share_of(options.own_namespace));
  const uint64_t block = posix::file_bytes(layout.block_bytes());
  if (block <= quota) return {};
  return make_status(Code::invalid_argument,
                     "posix: quotas: %llu bytes for namespace '%s' are less than one block of %llu",
                     static_cast<unsigned long long>(quota), options.own_namespace.c_str(),
                     static_cast<unsigned long long>(block));
}

// The order in which the collector removes blocks is that of their last use.
std::unique_ptr<CapacityShadow> make_shadow(const posix::PosixOptions& options,
                                            const BlockLayout& layout,
                                            base::MetricRegistry* metrics) {
  const uint64_t bytes = options.own_bytes();
  if (bytes == Quotas::kNoLimit || layout.empty()) return nullptr;
  return CapacityShadow::make("lru", bytes / posix::file_bytes(layout.block_bytes()), metrics,
                              "Posix");
}

Result<StorePtr> make_posix_stage(StageContext context) {
  if (context.layout.pieces() > 1 || context.layout.shards() > 1) {
    return make_status(Code::invalid_argument,
                       "posix: takes whole blocks in one piece; put a Cache in front");
  }
  UCM_TRY_ASSIGN(const posix::PosixOptions options, posix::read_posix_options(*context.options));
  UCM_TRY(check_quota(options, context.layout));
  const auto metrics = std::make_shared<StageMetrics>(context.metrics, "Posix");
  UCM_TRY_ASSIGN(auto blocks,
                 posix::BlockSet::open(options, context.layout, context.read_only, metrics));
  metrics->capacity_bytes().set(
      static_cast<int64_t>(options.capacity_bytes * options.roots.size()));
  auto shadow = make_shadow(options, context.layout, context.metrics.get());
  auto engine = std::make_shared<posix::PosixEngine>(options, std::move(blocks), context.read_only,
                                                     metrics, std::move(shadow));
  if (!engine->ready()) {
    engine->close();
    return make_status(Code::unavailable,
                       "posix: no more threads; lower io_threads or raise ulimit -u");
  }
  return StorePtr(
      std::make_unique<PosixStage>(context.layout, context.read_only, metrics, std::move(engine)));
}

}  // namespace

extern const StageEntry posix_stage_entry;
const StageEntry posix_stage_entry = {"Posix", StageRole::storage, posix::kPosixOptionKeys,
                                      make_posix_stage, posix::inspect_posix};

}  // namespace ucm
