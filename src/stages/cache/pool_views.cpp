// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/pool_views.h"

#include <sys/stat.h>

#include <algorithm>

#include "ucm/log.h"

namespace ucm::stages::cache {
namespace {

bool same(const timespec& a, const timespec& b) {
  return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

}  // namespace

void PoolViews::find_ready(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  const std::lock_guard guard(mutex_);
  look_for_pools();
  std::ranges::fill(present, 0);
  std::vector<uint8_t> here(keys.size());
  for (const auto& [path, pool] : pools_) {
    pool->lock();
    pool->find_ready(keys, here);
    pool->unlock();
    for (size_t i = 0; i < here.size(); ++i) present[i] |= here[i];
  }
}

void PoolViews::remove(std::span<const BlockKey> keys) {
  const std::lock_guard guard(mutex_);
  look_for_pools();
  for (const auto& [path, pool] : pools_) {
    pool->lock();
    for (const BlockKey& key : keys) pool->forget(key);
    pool->unlock();
  }
}

void PoolViews::keep(std::span<const BlockKey> keys, std::span<uint8_t> kept) {
  const std::lock_guard guard(mutex_);
  look_for_pools();
  for (const auto& [path, pool] : pools_) {
    pool->lock();
    for (size_t i = 0; i < keys.size(); ++i) {
      const uint32_t slot = pool->find(keys[i]);
      if (slot != SlotTable::kNone && pool->keep(slot)) kept[i] = 1;
    }
    pool->unlock();
  }
}

void PoolViews::let_go(std::span<const BlockKey> keys) {
  const std::lock_guard guard(mutex_);
  look_for_pools();
  for (const auto& [path, pool] : pools_) {
    pool->lock();
    for (const BlockKey& key : keys) {
      const uint32_t slot = pool->find(key);
      if (slot != SlotTable::kNone) pool->let_go(slot);
    }
    pool->unlock();
  }
}

void PoolViews::look_for_pools() {
  const auto directory = memory::runtime_directory();
  struct stat found = {};
  if (!directory.ok() || ::stat(directory.value().c_str(), &found) != 0) return;
  if (same(found.st_mtim, looked_at_)) return;
  const auto paths = find_shared_pools(place_.name);
  if (!paths.ok()) return;
  bool all = true;
  for (const std::string& path : paths.value()) {
    if (pools_.contains(path)) continue;
    auto pool = watch_shared_pool(path);
    if (pool.ok()) {
      pool.value().mask = place_.mask;
      pools_[path] = std::make_unique<SlotTable>(
          std::move(pool).value(),
          SlotTable::Keeping{.retain = true, .second_use = false, .keep_share = keep_share_});
      continue;
    }
    all = all && pool.status().code() == Code::not_found;
    log(LogLevel::debug, "%s", pool.status().to_string().c_str());
  }
  // A file that is made within the clock's tick of this look would not change the time again.
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  if (all && now.tv_sec - found.st_mtim.tv_sec > 1) looked_at_ = found.st_mtim;
}

}  // namespace ucm::stages::cache
