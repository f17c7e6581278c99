// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/quotas.h"
#include "ucm/options.h"
#include "ucm/status.h"

namespace ucm::posix {

enum class PathStrategy : uint8_t { hash, round_robin };
enum class Verify : uint8_t { always, sample, never };
enum class Durability : uint8_t { none, group, strict };

// The configuration of the Posix stage, checked. docs/configuration.md describes the keys.
struct PosixOptions {
  std::vector<std::string> roots;
  PathStrategy path_strategy = PathStrategy::hash;
  Verify verify = Verify::always;
  Durability durability = Durability::none;
  // Whether to pass the page cache. Empty: loads do on a local disk when it does not have the
  // block.
  std::optional<bool> io_direct;
  uint32_t io_threads = 4;
  uint64_t capacity_bytes = 0;  // of each root; 0: nothing is collected by space
  std::string own_namespace;    // of the blocks of this store; empty: none
  Quotas quotas;                // of each root
  double eviction_high = 0.90;
  double eviction_low = 0.80;
  double pin_limit = 0.5;   // share of the capacity
  bool second_use = false;  // a block is stored when it is dumped for the second time
  uint32_t dir_mode = 0700;
  uint32_t file_mode = 0600;
  uint32_t retry_count = 0;
  uint64_t pack_bytes = size_t{64} << 10;  // up to this, dumped together: they share files
  double lookup_ttl_s = 0;
  double timeout_s = 30;

  bool always_direct() const { return io_direct.value_or(false); }
  // Of the namespace of this store in all roots; Quotas::kNoLimit without a capacity.
  uint64_t own_bytes() const;
  // Whether blocks leave for space.
  bool collects() const { return capacity_bytes > 0 || !quotas.empty(); }
  std::chrono::nanoseconds timeout() const {
    return std::chrono::nanoseconds(static_cast<int64_t>(timeout_s * 1e9));
  }
};

inline constexpr std::array<std::string_view, 19> kPosixOptionKeys = {
    "storage_backends", "io_direct",    "io_threads",   "path_strategy", "capacity_bytes",
    "eviction_high",    "eviction_low", "verify",       "durability",    "dir_mode",
    "file_mode",        "retry_count",  "lookup_ttl_s", "timeout_s",     "pin_limit",
    "namespace",        "quotas",       "pack_bytes",   "admission"};

// invalid_argument names the key and what it takes.
Result<PosixOptions> read_posix_options(const Options& options);

}  // namespace ucm::posix
