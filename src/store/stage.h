// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/metric_registry.h"
#include "ucm/device.h"
#include "ucm/inspect.h"
#include "ucm/options.h"
#include "ucm/store.h"

namespace ucm {

// Everything a stage gets when it is made. `layout` is the full layout for a stage that needs the
// device side of a block and the flat one for all others; empty for a lookup-only pipeline.
struct StageContext {
  const Options* options = nullptr;
  BlockLayout layout;
  bool read_only = false;
  std::shared_ptr<base::MetricRegistry> metrics;
  std::shared_ptr<Device> device;
  StorePtr next;  // the stage below, or null at the bottom
};

// Where a stage stands in a spec.
enum class StageRole : uint8_t {
  cache,    // first only; takes any layout and device memory; has a `next` or stands alone
  storage,  // below a cache: one 4 KiB-aligned host address per row, whole blocks
  sink,     // takes any layout and address because it never touches them (Null, Fake)
};

// What a stage folder exports; cmake/ collects them into the stage table.
struct StageEntry {
  const char* name;  // as in specs: "Disk"
  StageRole role;
  std::span<const std::string_view> option_keys;
  Result<StorePtr> (*make)(StageContext context);
  // Walks what `path` holds for this stage; null when it stores nothing. not_found: not mine.
  Status (*inspect)(const std::string& path, bool verify, const BlockVisitor& visit);
};

std::span<const StageEntry* const> stage_table();
// Case-insensitive; null when unknown.
const StageEntry* find_stage(std::string_view name);

}  // namespace ucm
