// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>

#include "ucm/status.h"

namespace ucm::io {

// The JSON of FORMAT.json files: one object whose values are texts or whole numbers from 0.
using FlatJson = std::map<std::string, std::variant<uint64_t, std::string>>;

// corruption, saying at which byte, for anything else; any bytes may be given.
Result<FlatJson> parse_flat_json(std::string_view text);
// One key per line, sorted; keys and texts must need no escapes beyond \" and \\.
std::string format_flat_json(const FlatJson& object);

}  // namespace ucm::io
