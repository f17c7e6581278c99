// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "ucm/version.h"

namespace ucm {

using OptionValue = std::variant<bool, int64_t, double, std::string, std::vector<std::string>>;

// Flat configuration of a pipeline: key -> value. A key may be prefixed by a stage name in lower
// case ("disk.io_depth"), which then wins over the plain key for that stage.
// docs/configuration.md lists the keys; an unknown key or a wrong type is `invalid_argument`.
using Options = std::map<std::string, OptionValue>;

}  // namespace ucm
