// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_usage.h"

#include <algorithm>
#include <tuple>
#include <unordered_set>

#include "io/paths.h"
#include "stages/posix/posix_root.h"
#include "stages/posix/posix_walk.h"

namespace ucm::posix {
namespace {

void reap(const std::string& path, int64_t before_ns) {
  if (before_ns == 0) return;
  const auto info = io::path_info(path);
  if (info.ok() && info.value().modified_ns < before_ns) (void)io::unlink_file(path);
}

// One namespace into the share it belongs to.
Result<bool> measure_folder(const std::string& folder, uint32_t number, const UsageWalk& walk,
                            ShareUsage* share) {
  // In each folder pins come before blocks.
  std::unordered_map<BlockKey, std::string> pins;
  WalkHooks hooks;
  hooks.on_pin = [&](const BlockKey& key, const std::string& path) {
    pins.emplace(key, path);
    return walk.step();
  };
  hooks.on_block = [&](const BlockKey& key, const std::string& path) {
    const auto info = io::path_info(path);
    const bool marked = pins.erase(key) > 0;
    if (info.ok()) {
      const io::PathInfo& file = info.value();
      share->add({.key = key,
                  .modified_ns = file.modified_ns,
                  .inode = file.inode,
                  .bytes = file.bytes,
                  .shared = file.links > 1,
                  .folder = number,
                  .marked = marked,
                  .pinned = marked});
    }
    return walk.step();
  };
  hooks.on_temporary = [&](const std::string& path) {
    reap(path, walk.reap_before_ns);
    return walk.step();
  };
  auto complete = walk_folder(folder, hooks);
  if (complete.status().code() == Code::not_found) return true;  // it has vanished meanwhile
  if (!complete.ok() || !complete.value()) return complete;
  for (const auto& [key, path] : pins) {
    if (!io::exists(block_path(folder, key))) reap(path, walk.reap_before_ns);
  }
  return true;
}

}  // namespace

void ShareUsage::add(const StoredBlock& block) {
  blocks.push_back(block);
  if (!block.shared || ++names[block.inode] == 1) bytes += block.bytes;
}

void ShareUsage::drop(StoredBlock* block) {
  block->gone = true;
  if (!block->shared || --names[block->inode] == 0) bytes -= block->bytes;
}

size_t ShareUsage::pinned() const {
  return static_cast<size_t>(
      std::count_if(blocks.begin(), blocks.end(), [](const StoredBlock& b) { return b.pinned; }));
}

size_t ShareUsage::order_victims(uint64_t pin_limit) {
  // Blocks of one file have one time, and leave together.
  std::sort(blocks.begin(), blocks.end(), [](const StoredBlock& a, const StoredBlock& b) {
    return std::tie(a.modified_ns, a.inode) < std::tie(b.modified_ns, b.inode);
  });
  uint64_t kept = 0;
  std::unordered_set<uint64_t> kept_files;
  for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
    if (!block->pinned || kept_files.contains(block->inode)) continue;
    block->pinned = kept + block->bytes <= pin_limit;
    if (!block->pinned) continue;
    kept += block->bytes;
    kept_files.insert(block->inode);
  }
  const auto last = std::stable_partition(blocks.begin(), blocks.end(),
                                          [](const StoredBlock& b) { return !b.pinned; });
  return static_cast<size_t>(last - blocks.begin());
}

Result<bool> measure_root(const std::string& root, const UsageWalk& walk, RootUsage* usage) {
  UCM_TRY_ASSIGN(const std::vector<std::string> names, list_namespaces(root));
  usage->shares.resize(walk.quotas->shares());
  for (const std::string& name : names) {
    const size_t share = walk.quotas->share_of(name);
    if (walk.only_share && share != *walk.only_share) continue;
    const auto number = static_cast<uint32_t>(usage->folders.size());
    usage->folders.push_back(namespace_folder(root, name));
    UCM_TRY_ASSIGN(const bool complete,
                   measure_folder(usage->folders.back(), number, walk, &usage->shares[share]));
    if (!complete) return false;
  }
  return true;
}

}  // namespace ucm::posix
