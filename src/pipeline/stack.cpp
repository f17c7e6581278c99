// SPDX-License-Identifier: Apache-2.0
// Builds the stages of a spec bottom-up and closes them in order.
#include <algorithm>
#include <utility>

#include "base/option_reader.h"
#include "pipeline/spec.h"
#include "store/guarded.h"
#include "store/ladder.h"
#include "ucm/log.h"
#include "ucm/pipeline.h"

namespace ucm {
namespace {

class Stack : public Pipeline {
 public:
  Stack(StorePtr top, BlockLayout layout, std::vector<std::string> stages,
        std::shared_ptr<base::MetricRegistry> metrics)
      : top_(std::move(top)),
        layout_(std::move(layout)),
        stages_(std::move(stages)),
        metrics_(std::move(metrics)) {}

  const BlockLayout& layout() const override { return layout_; }
  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override {
    if (present.size() != keys.size()) {
      return make_status(Code::invalid_argument, "lookup: %zu answers for %zu keys", present.size(),
                         keys.size());
    }
    return top_->lookup(keys, present);
  }
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override {
    return top_->lookup_prefix(keys);
  }
  Status prefetch(std::span<const BlockKey> keys) override { return top_->prefetch(keys); }
  TaskPtr load(const Batch& batch) override { return top_->load(batch); }
  TaskPtr dump(const Batch& batch) override { return top_->dump(batch); }
  Status remove(std::span<const BlockKey> keys) override { return top_->remove(keys); }
  Status abandon(std::span<const BlockKey> keys) override { return top_->abandon(keys); }
  Status renew(std::span<const BlockKey> keys) override { return top_->renew(keys); }
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override {
    if (pinned.size() != keys.size()) {
      return make_status(Code::invalid_argument, "pin: %zu answers for %zu keys", pinned.size(),
                         keys.size());
    }
    return top_->pin(keys, pinned);
  }
  Status unpin(std::span<const BlockKey> keys) override { return top_->unpin(keys); }
  void close() override { top_->close(); }
  std::vector<MetricSample> metrics() const override { return metrics_->samples(); }
  const std::vector<std::string>& stages() const override { return stages_; }

 private:
  const StorePtr top_;
  const BlockLayout layout_;
  const std::vector<std::string> stages_;
  const std::shared_ptr<base::MetricRegistry> metrics_;
};

Result<std::shared_ptr<Device>> open_configured_device(const Options& options) {
  const base::OptionReader reader(options, "device");
  std::string platform = "cpu";
  uint32_t id = 0;
  UCM_TRY(reader.read("platform", &platform));
  UCM_TRY(reader.read("device_id", &id));
  return open_device(platform, static_cast<int>(id));
}

// With their own defaults several storage stages would have more threads than the eight that a
// pipeline may have. Disk needs its own only where io_uring is not to be had.
constexpr std::pair<const char*, int64_t> kThreadsBesideOthers[] = {{"disk", 1}, {"posix", 2}};

Options with_thread_defaults(const Options& given, const std::vector<const StageEntry*>& stages) {
  Options options = given;
  const auto stores = std::count_if(stages.begin(), stages.end(), [](const StageEntry* entry) {
    return entry->role == StageRole::storage;
  });
  if (stores < 2 || options.contains("io_threads")) return options;
  for (const auto& [stage, threads] : kThreadsBesideOthers) {
    options.try_emplace(std::string(stage) + ".io_threads", threads);
  }
  return options;
}

// Whether stage `i` stores below one that keeps blocks, which can go on alone when `i` fails.
Result<bool> stands_below_a_keeper(const std::vector<const StageEntry*>& stages, size_t i,
                                   const Options& options) {
  if (i == 0 || stages[i]->role != StageRole::storage) return false;
  bool keeps = true;
  if (stages[i - 1]->role == StageRole::cache) {
    UCM_TRY(base::OptionReader(options, "cache").read("retain", &keeps));
  }
  return keeps;
}

// Half of what callers wait for a transfer: those who come later need not wait at all.
Result<Guarding> guarding_of(const StageEntry& entry, const Options& options) {
  double timeout_s = 30;
  UCM_TRY(base::OptionReader(options, entry.name).read("timeout_s", &timeout_s));
  Guarding guarding;
  guarding.silence_limit = std::chrono::nanoseconds(static_cast<int64_t>(timeout_s / 2 * 1e9));
  return guarding;
}

// A storage stage takes aligned host blocks only; this Cache gathers them and keeps nothing.
Result<StorePtr> put_staging_in_front(StageContext context) {
  Options options = *context.options;
  options["cache.retain"] = false;
  context.options = &options;
  return find_stage("Cache")->make(std::move(context));
}

}  // namespace

Result<std::unique_ptr<Pipeline>> Pipeline::open(const PipelineConfig& config) {
  UCM_TRY(pipeline::check_option_names(config.options));
  UCM_TRY_ASSIGN(const auto entries, pipeline::parse_spec(config.spec));
  UCM_TRY_ASSIGN(const auto device, open_configured_device(config.options));
  const Options options = with_thread_defaults(config.options, entries);
  auto metrics = std::make_shared<base::MetricRegistry>();
  std::vector<std::string> names;
  for (const StageEntry* entry : entries) names.emplace_back(entry->name);

  StorePtr top;
  for (size_t i = entries.size(); i > 0; --i) {
    const StageEntry* entry = entries[i - 1];
    StageContext context;
    context.options = &options;
    context.layout = entry->role == StageRole::storage ? config.layout.flat() : config.layout;
    context.read_only = config.read_only;
    context.metrics = metrics;
    context.device = device;
    if (entry->role == StageRole::cache) context.next = std::move(top);
    UCM_TRY_ASSIGN(StorePtr made, entry->make(std::move(context)));
    UCM_TRY_ASSIGN(const bool guarded, stands_below_a_keeper(entries, i - 1, options));
    if (guarded) {
      UCM_TRY_ASSIGN(const Guarding guarding, guarding_of(*entry, options));
      made = make_guarded(std::move(made), entry->name, metrics, guarding);
    }
    if (top) {
      base::Counter& partial =
          metrics->counter("ucm_partial_lookups_total", {{"stage", entry->name}});
      made = make_ladder(std::move(made), std::move(top), {metrics, &partial});
    }
    top = std::move(made);
  }
  if (entries.front()->role == StageRole::storage) {
    StageContext context;
    context.options = &options;
    context.layout = config.layout;
    context.read_only = config.read_only;
    context.metrics = metrics;
    context.device = device;
    context.next = std::move(top);
    UCM_TRY_ASSIGN(top, put_staging_in_front(std::move(context)));
  }
  return std::unique_ptr<Pipeline>(
      std::make_unique<Stack>(std::move(top), config.layout, std::move(names), std::move(metrics)));
}

}  // namespace ucm
