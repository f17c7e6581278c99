// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <string>

#include "base/eviction_arc.h"
#include "base/eviction_auto.h"
#include "base/eviction_lru.h"
#include "base/eviction_lru2.h"
#include "base/eviction_s3fifo.h"

namespace ucm::base {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"auto", "lru", "arc", "lru2", "s3fifo"};
// Slots and ghosts are numbered with 32 bits, two places each.
constexpr uint32_t kMostSlots = 1u << 30;

}  // namespace

std::span<const std::string_view> eviction_policy_names() { return kNames; }

Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             uint32_t capacity) {
  std::unique_ptr<EvictionPolicy> policy;
  if (name != "lru" && capacity >= kMostSlots) {
    return make_status(Code::invalid_argument,
                       "eviction_policy: '%s' has room for %u slots, not %u",
                       std::string(name).c_str(), kMostSlots - 1, capacity);
  }
  if (name == "lru") {
    policy = std::make_unique<LruPolicy>(capacity);
  } else if (name == "auto") {
    policy = std::make_unique<AutoPolicy>(capacity);
  } else if (name == "arc") {
    policy = std::make_unique<ArcPolicy>(capacity);
  } else if (name == "lru2") {
    policy = std::make_unique<Lru2Policy>(capacity);
  } else if (name == "s3fifo") {
    policy = std::make_unique<S3FifoPolicy>(capacity);
  } else {
    return make_status(Code::invalid_argument,
                       "eviction_policy: '%s' is none of auto, lru, arc, lru2, s3fifo",
                       std::string(name).c_str());
  }
  return policy;
}

}  // namespace ucm::base
