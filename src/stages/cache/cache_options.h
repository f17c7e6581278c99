// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "stages/cache/pool_memory.h"
#include "ucm/layout.h"
#include "ucm/options.h"
#include "ucm/status.h"

namespace ucm::stages::cache {

// docs/configuration.md says what each key means.
struct CacheOptions {
  uint64_t buffer_number = 0;     // slots; 0 = not given
  uint64_t cache_capacity = 0;    // blocks; 0 = not given
  uint64_t pinned_pool_size = 0;  // bytes; 0 = not given
  uint64_t max_pinned_size = 0;   // bytes; 0 = not given
  bool retain = true;
  bool share = false;
  std::string unique_id = "default";
  // With `share` only: a Cache of one process is its store's own.
  std::string own_namespace;
  std::vector<std::string> quotas;
  bool prefault = false;
  bool huge_pages = true;
  std::string eviction_policy = "auto";
  uint32_t copy_threads = 0;  // 0 = up to 2, as many as there are processors
  bool second_use = false;
  double pin_limit = 0.5;  // share of the slots
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);

  static constexpr std::array<std::string_view, 16> kKeys = {
      "buffer_number", "cache_capacity", "pinned_pool_size", "max_pinned_size", "retain",
      "prefault",      "huge_pages",     "eviction_policy",  "copy_threads",    "timeout_s",
      "share",         "unique_id",      "admission",        "pin_limit",       "namespace",
      "quotas"};

  static Result<CacheOptions> read(const Options& options);
  // The slots all limits allow together; says in the log which one decided. At least 1.
  uint32_t slots(const BlockLayout& layout) const;
  // What of so many slots, all that may be shared, the namespace has together with those it shares
  // them with.
  Result<uint32_t> own_slots(uint32_t slots, size_t slot_bytes) const;
  PoolPlace place() const;
};

}  // namespace ucm::stages::cache
