// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "io/paths.h"
#include "ucm/key.h"
#include "ucm/status.h"

namespace ucm::posix {

// What a walk meets. Either hook may be empty; a hook that answers false ends the walk.
struct WalkHooks {
  std::function<bool(const BlockKey& key, const std::string& path)> on_block;
  std::function<bool(const std::string& path)> on_temporary;
};

// Visits the files below a root, folder by folder in the order of the keys. Foreign names are left
// alone, folders that vanish meanwhile are left out. False: a hook ended the walk.
Result<bool> walk_root(const std::string& root, const WalkHooks& hooks);

}  // namespace ucm::posix
