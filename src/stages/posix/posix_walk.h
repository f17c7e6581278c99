// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "io/paths.h"
#include "ucm/key.h"
#include "ucm/status.h"

namespace ucm::posix {

// What a walk meets: in each folder the pins before the blocks. A hook may be empty; one that
// answers false ends the walk.
struct WalkHooks {
  std::function<bool(const BlockKey& key, const std::string& path)> on_block;
  std::function<bool(const BlockKey& key, const std::string& path)> on_pin;
  std::function<bool(const std::string& path)> on_temporary;
};

// Visits the files of one namespace, folder by folder in the order of the keys. Foreign names are
// left alone, folders that vanish meanwhile are left out. False: a hook ended the walk.
Result<bool> walk_folder(const std::string& folder, const WalkHooks& hooks);

// The namespaces of a root in the order of their names; the first one is "", the root itself.
Result<std::vector<std::string>> list_namespaces(const std::string& root);

}  // namespace ucm::posix
