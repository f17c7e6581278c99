// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "store/quotas.h"
#include "ucm/key.h"
#include "ucm/status.h"

namespace ucm::posix {

struct StoredBlock {
  BlockKey key;
  int64_t modified_ns = 0;
  uint64_t inode = 0;
  uint64_t bytes = 0;   // of its file
  bool shared = false;  // with other blocks
  uint32_t folder = 0;  // RootUsage::folders
  bool marked = false;  // as pinned
  bool pinned = false;  // and the pin counts
  bool gone = false;
};

// The blocks of one share of the capacity in one root.
struct ShareUsage {
  std::vector<StoredBlock> blocks;
  uint64_t bytes = 0;                            // of all files, each once
  std::unordered_map<uint64_t, uint32_t> names;  // inode of a shared file -> its blocks

  void add(const StoredBlock& block);
  // The block's name has gone; its file goes with the last one.
  void drop(StoredBlock* block);

  size_t pinned() const;
  // Those that leave first come first. Answers how many of them may leave: pinned blocks stay, as
  // long as they take up to `pin_limit` bytes; beyond that the ones used longest ago count as not
  // pinned.
  size_t order_victims(uint64_t pin_limit);
};

struct RootUsage {
  std::vector<std::string> folders;  // of the namespaces
  std::vector<ShareUsage> shares;
};

// How a root is measured.
struct UsageWalk {
  const Quotas* quotas = nullptr;
  std::optional<size_t> only_share;  // else all of them
  std::function<bool()> step;        // asked after every file: false ends the walk
  // Temporary files and pins without a block that are older are removed; nothing when it is 0.
  int64_t reap_before_ns = 0;
};

// False: `step` ended the walk.
Result<bool> measure_root(const std::string& root, const UsageWalk& walk, RootUsage* usage);

}  // namespace ucm::posix
