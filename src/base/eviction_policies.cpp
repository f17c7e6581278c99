// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <string>

#include "base/eviction.h"
#include "base/eviction_lru.h"

namespace ucm::base {
namespace {

constexpr std::array<std::string_view, 2> kNames = {"auto", "lru"};

}  // namespace

std::span<const std::string_view> eviction_policy_names() { return kNames; }

Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             uint32_t capacity) {
  if (std::find(kNames.begin(), kNames.end(), name) == kNames.end()) {
    return make_status(Code::invalid_argument, "eviction_policy: '%s' is none of auto, lru",
                       std::string(name).c_str());
  }
  return std::unique_ptr<EvictionPolicy>(std::make_unique<LruPolicy>(capacity));
}

}  // namespace ucm::base
