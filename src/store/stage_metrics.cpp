// SPDX-License-Identifier: Apache-2.0
#include "store/stage_metrics.h"

namespace ucm {

StageMetrics::StageMetrics(std::shared_ptr<base::MetricRegistry> registry, std::string stage)
    : registry_(std::move(registry)),
      stage_(std::move(stage)),
      lookup_blocks_(registry_->counter("ucm_lookup_blocks_total", {{"stage", stage_}})),
      lookup_hit_blocks_(registry_->counter("ucm_lookup_hit_blocks_total", {{"stage", stage_}})),
      load_(way("load")),
      dump_(way("dump")),
      evicted_blocks_(registry_->counter("ucm_evicted_blocks_total", {{"stage", stage_}})),
      capacity_bytes_(registry_->gauge("ucm_capacity_bytes", {{"stage", stage_}})),
      used_bytes_(registry_->gauge("ucm_used_bytes", {{"stage", stage_}})),
      blocks_(registry_->gauge("ucm_blocks", {{"stage", stage_}})),
      queue_depth_(registry_->gauge("ucm_queue_depth", {{"stage", stage_}})),
      pinned_blocks_(registry_->gauge("ucm_pinned_blocks", {{"stage", stage_}})),
      refused_blocks_(registry_->counter("ucm_refused_blocks_total", {{"stage", stage_}})),
      partial_lookups_(registry_->counter("ucm_partial_lookups_total", {{"stage", stage_}})) {}

StageMetrics::Way StageMetrics::way(const char* direction) {
  const base::Labels labels = {{"stage", stage_}, {"direction", direction}};
  return {registry_->counter("ucm_transfer_bytes_total", labels),
          registry_->counter("ucm_transfer_blocks_total", labels),
          registry_->histogram("ucm_transfer_seconds", labels)};
}

NamespaceMetrics StageMetrics::of_namespace(const std::string& name) {
  const base::Labels labels = {{"stage", stage_}, {"namespace", name}};
  return {registry_->gauge("ucm_namespace_quota_bytes", labels),
          registry_->gauge("ucm_namespace_used_bytes", labels),
          registry_->gauge("ucm_namespace_blocks", labels),
          registry_->counter("ucm_namespace_evicted_blocks_total", labels)};
}

void StageMetrics::transferred(Direction direction, size_t blocks, size_t bytes, double seconds) {
  Way& way = direction == Direction::load ? load_ : dump_;
  way.bytes.add(bytes);
  way.blocks.add(blocks);
  way.seconds.observe(seconds);
}

void StageMetrics::failed(const Status& status, size_t blocks) {
  registry_
      ->counter("ucm_failures_total",
                {{"stage", stage_}, {"cause", std::string(name(status.code()))}})
      .add(blocks);
}

void StageMetrics::dropped(const char* cause) {
  registry_->counter("ucm_dropped_blocks_total", {{"stage", stage_}, {"cause", cause}}).add();
}

}  // namespace ucm
