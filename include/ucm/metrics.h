// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ucm/version.h"

namespace ucm {

enum class MetricKind : uint8_t { counter, gauge, histogram };

// One value read from a running pipeline. For a histogram `bounds` are the upper bounds in the
// metric's unit, `counts` the observations per bucket (one more than bounds: the last is +Inf),
// and `value` the sum of all observations.
struct MetricSample {
  std::string name;
  MetricKind kind = MetricKind::counter;
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;
  std::vector<double> bounds;
  std::vector<uint64_t> counts;
};

}  // namespace ucm
