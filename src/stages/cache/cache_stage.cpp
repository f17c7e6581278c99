// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "stages/cache/cache_flow.h"
#include "stages/cache/cache_options.h"
#include "stages/cache/cache_watch.h"
#include "stages/cache/pool_views.h"
#include "store/lent_stage.h"
#include "store/stage.h"

namespace ucm {
namespace stages::cache {
namespace {

// The Store face of the Cache: looks here first, then below; everything that moves is CacheFlow's.
class CacheStage : public Store {
 public:
  CacheStage(BlockLayout layout, std::shared_ptr<CacheFlow> flow, std::unique_ptr<CacheWatch> watch,
             std::unique_ptr<PoolViews> views, std::shared_ptr<StageMetrics> metrics,
             std::shared_ptr<CapacityShadow> shadow, std::shared_ptr<LentStage> next,
             bool read_only)
      : layout_(std::move(layout)),
        flow_(std::move(flow)),
        watch_(std::move(watch)),
        views_(std::move(views)),
        metrics_(std::move(metrics)),
        shadow_(std::move(shadow)),
        next_(std::move(next)),
        read_only_(read_only) {}
  ~CacheStage() override {
    close();
    if (next_) next_->take_back();
  }

  const BlockLayout& layout() const override { return layout_; }
  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override;
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override;
  Status prefetch(std::span<const BlockKey> keys) override;
  TaskPtr load(const Batch& batch) override { return start(Direction::load, batch); }
  TaskPtr dump(const Batch& batch) override { return start(Direction::dump, batch); }
  Status remove(std::span<const BlockKey> keys) override;
  Status abandon(std::span<const BlockKey> keys) override {
    if (closed_) return closed_status();
    return flow_ ? remove(flow_->abandon(keys)) : remove(keys);
  }
  Status renew(std::span<const BlockKey> keys) override;
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override;
  Status unpin(std::span<const BlockKey> keys) override;
  void close() override;

 private:
  TaskPtr start(Direction direction, const Batch& batch);
  void find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present);

  const BlockLayout layout_;
  const std::shared_ptr<CacheFlow> flow_;   // null for a lookup-only store
  std::unique_ptr<CacheWatch> watch_;       // of a shared pool
  const std::unique_ptr<PoolViews> views_;  // of a lookup-only store over shared pools
  const std::shared_ptr<StageMetrics> metrics_;
  const std::shared_ptr<CapacityShadow> shadow_;  // null when nothing is retained
  const std::shared_ptr<LentStage> next_;         // may be null
  const bool read_only_;
  std::atomic<bool> closed_{false};
};

void CacheStage::find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  if (flow_) {
    flow_->find_ready(keys, present);
  } else if (views_) {
    views_->find_ready(keys, present);
  } else {
    std::fill(present.begin(), present.end(), 0);
  }
}

Status CacheStage::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  if (closed_) return closed_status();
  find_ready(keys, present);
  if (shadow_) shadow_->looked_up(keys, false);
  const auto hits = static_cast<size_t>(std::count(present.begin(), present.end(), 1));
  metrics_->looked_up(keys.size(), hits);
  if (!next_ || hits == keys.size()) return {};
  if (hits == 0) return next_->lookup(keys, present);
  // From here on what was found is the answer, whatever happens below.
  std::vector<BlockKey> missing;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!present[i]) missing.push_back(keys[i]);
  }
  std::vector<uint8_t> below(missing.size());
  if (!next_->lookup(missing, below).ok()) {
    metrics_->partial_lookups().add();
    return {};
  }
  for (size_t i = 0, j = 0; i < keys.size(); ++i) {
    if (!present[i]) present[i] = below[j++];
  }
  return {};
}

Result<size_t> CacheStage::lookup_prefix(std::span<const BlockKey> keys) {
  if (closed_) return closed_status();
  std::vector<uint8_t> here(keys.size());
  find_ready(keys, here);
  if (shadow_) shadow_->looked_up(keys, true);
  size_t count = 0;
  size_t hits = 0;
  while (count < keys.size()) {
    if (here[count]) {
      ++count;
      ++hits;
      continue;
    }
    if (!next_) break;
    const auto below = next_->lookup_prefix(keys.subspan(count));
    if (!below.ok()) {
      if (count == 0) return below.status();
      metrics_->partial_lookups().add();
      break;
    }
    if (below.value() == 0) break;
    count += below.value();
  }
  metrics_->looked_up(keys.size(), hits);
  return count;
}

Status CacheStage::prefetch(std::span<const BlockKey> keys) {
  if (closed_) return closed_status();
  if (flow_) flow_->prefetch(keys);
  return {};
}

TaskPtr CacheStage::start(Direction direction, const Batch& batch) {
  const auto rows = static_cast<uint32_t>(batch.rows());
  if (closed_) return Task::finished(rows, closed_status());
  if (!flow_) {
    return Task::finished(
        rows, make_status(Code::invalid_argument,
                          "cache: this store was opened for lookups only; open it with a layout"));
  }
  if (read_only_ && direction == Direction::dump) {
    return Task::finished(
        rows, make_status(Code::unsupported,
                          "cache: this store was opened read-only; open it for writing to dump"));
  }
  return flow_->start(direction, batch);
}

Status CacheStage::remove(std::span<const BlockKey> keys) {
  if (closed_) return closed_status();
  if (shadow_) shadow_->removed(keys);
  if (flow_) flow_->remove(keys);
  if (views_) views_->remove(keys);
  return next_ ? next_->remove(keys) : Status();
}

Status CacheStage::renew(std::span<const BlockKey> keys) {
  if (closed_) return closed_status();
  if (flow_) flow_->renew(keys);
  return next_ ? next_->renew(keys) : Status();
}

Status CacheStage::pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) {
  if (closed_) return closed_status();
  std::vector<uint8_t> here(keys.size());
  if (flow_) flow_->keep(keys, here);
  if (views_) views_->keep(keys, here);
  std::fill(pinned.begin(), pinned.end(), uint8_t{0});
  const Status below = next_ ? next_->pin(keys, pinned) : Status();
  if (!below.ok()) std::fill(pinned.begin(), pinned.end(), uint8_t{0});
  for (size_t i = 0; i < keys.size(); ++i) pinned[i] |= here[i];
  // What is kept here is kept, although the stage below can not be asked.
  return std::count(here.begin(), here.end(), 0) < static_cast<ptrdiff_t>(here.size()) ? Status()
                                                                                       : below;
}

Status CacheStage::unpin(std::span<const BlockKey> keys) {
  if (closed_) return closed_status();
  if (flow_) flow_->let_go(keys);
  if (views_) views_->let_go(keys);
  return next_ ? next_->unpin(keys) : Status();
}

void CacheStage::close() {
  if (closed_.exchange(true)) return;
  if (flow_) flow_->drain();
  watch_.reset();
  if (next_) next_->close();
  if (flow_) flow_->give_up();
}

Result<std::unique_ptr<SlotTable>> make_table(const CacheOptions& options,
                                              const StageContext& context) {
  uint32_t slots = options.slots(context.layout);
  if (options.share) {
    UCM_TRY_ASSIGN(slots, options.own_slots(slots, context.layout.slot_bytes()));
  }
  const PoolOptions pool = {context.layout.slot_bytes(), slots, options.huge_pages,
                            options.prefault, context.device};
  const SlotTable::Keeping keeping = {options.retain, options.second_use, options.pin_limit};
  if (options.share) {
    UCM_TRY_ASSIGN(auto memory, join_shared_pool(options.place(), context.layout, pool,
                                                 options.eviction_policy));
    return std::make_unique<SlotTable>(std::move(memory), keeping);
  }
  UCM_TRY_ASSIGN(auto memory, make_own_pool(context.layout, pool, options.eviction_policy));
  return std::make_unique<SlotTable>(std::move(memory), keeping);
}

Result<StorePtr> make_cache(StageContext context) {
  UCM_TRY_ASSIGN(const CacheOptions options, CacheOptions::read(*context.options));
  if (!options.retain && !context.next) {
    return make_status(Code::invalid_argument,
                       "cache: retain=false needs a stage below that keeps the blocks");
  }
  auto metrics = std::make_shared<StageMetrics>(context.metrics, "Cache");
  std::shared_ptr<CacheFlow> flow;
  std::shared_ptr<CapacityShadow> shadow;
  std::unique_ptr<CacheWatch> watch;
  std::unique_ptr<PoolViews> views;
  std::shared_ptr<LentStage> next;
  if (context.next) next = std::make_shared<LentStage>(std::move(context.next));
  if (!context.layout.empty()) {
    CacheFlow::Parts parts;
    UCM_TRY_ASSIGN(parts.slots, make_table(options, context));
    const bool shared = parts.slots->shared();
    metrics->capacity_bytes().set(
        static_cast<int64_t>(parts.slots->slots() * parts.slots->slot_bytes()));
    parts.layout = context.layout;
    if (options.retain) {
      shadow = CapacityShadow::make(parts.slots->policy_name(),
                                    static_cast<uint32_t>(parts.slots->slots()),
                                    context.metrics.get(), "Cache");
    }
    parts.shadow = shadow;
    parts.copier = std::make_unique<transport::Copier>(context.device, options.copy_threads);
    UCM_TRY(parts.copier->check());
    parts.metrics = metrics;
    parts.next = next;
    parts.retain = options.retain;
    parts.timeout = options.timeout;
    flow = std::make_shared<CacheFlow>(std::move(parts));
    if (shared) {
      watch = std::make_unique<CacheWatch>(flow);
      if (!watch->runs()) {
        return make_status(Code::unavailable, "cache: no thread left; raise ulimit -u");
      }
    }
  } else if (options.share) {
    views = std::make_unique<PoolViews>(options.place(), options.pin_limit);
  }
  return StorePtr(std::make_unique<CacheStage>(
      context.layout, std::move(flow), std::move(watch), std::move(views), std::move(metrics),
      std::move(shadow), std::move(next), context.read_only));
}

}  // namespace
}  // namespace stages::cache

extern const StageEntry cache_stage_entry;
const StageEntry cache_stage_entry = {"Cache", StageRole::cache, stages::cache::CacheOptions::kKeys,
                                      stages::cache::make_cache, nullptr};

}  // namespace ucm
