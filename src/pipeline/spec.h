// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "store/stage.h"
#include "ucm/options.h"
#include "ucm/status.h"

namespace ucm::pipeline {

// "Cache|Disk" -> stage entries from the fastest. Checks the names (case does not matter) and the
// order: a cache only first, at least one stage, a sink or storage stage anywhere behind it.
Result<std::vector<const StageEntry*>> parse_spec(std::string_view spec);

// invalid_argument naming the nearest known key for an option no stage understands.
Status check_option_names(const Options& options);

}  // namespace ucm::pipeline
