// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "stages/cache/slot_table.h"

namespace ucm::stages::cache {

// What a store without a layout sees of the shared pools in a place: lookups, pins and removals
// over all of them, those that are made later included. Thread-safe.
class PoolViews {
 public:
  PoolViews(PoolPlace place, double keep_share)
      : place_(std::move(place)), keep_share_(keep_share) {}

  void find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present);
  void remove(std::span<const BlockKey> keys);
  // kept[i] = 1 when a pool that has keys[i] keeps it.
  void keep(std::span<const BlockKey> keys, std::span<uint8_t> kept);
  void let_go(std::span<const BlockKey> keys);

 private:
  void look_for_pools();

  const PoolPlace place_;
  const double keep_share_;
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<SlotTable>> pools_;  // by path
  timespec looked_at_{};  // the time of the directory when it was last read, once it was old
};

}  // namespace ucm::stages::cache
