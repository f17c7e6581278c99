// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ucm/metrics.h"
#include "ucm/options.h"
#include "ucm/store.h"

namespace ucm {

struct PipelineConfig {
  std::string spec;        // stages from the fastest, e.g. "Cache|Disk"
  Options options;         // see options.h
  BlockLayout layout;      // empty: lookup and remove only, no buffers are made
  bool read_only = false;  // take no write locks; dump answers `unsupported`
};

// A Store made of stages. Also answers the metrics of all its stages.
class UCM_API Pipeline : public Store {
 public:
  // Builds the stages bottom-up; on failure everything opened so far is closed again.
  static Result<std::unique_ptr<Pipeline>> open(const PipelineConfig& config);

  virtual std::vector<MetricSample> metrics() const = 0;
  // The stages as built, e.g. {"Cache", "Disk"}.
  virtual const std::vector<std::string>& stages() const = 0;
};

// Names a spec may contain, and every option key any stage understands (sorted, without prefixes).
UCM_API std::vector<std::string> stage_names();
UCM_API std::vector<std::string> option_names();

}  // namespace ucm
