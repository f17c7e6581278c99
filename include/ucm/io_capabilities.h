// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "ucm/status.h"

namespace ucm {

// What the storage below a folder can do, as far as ucm cares.
struct IoCapabilities {
  std::string file_system;  // "ext4", "xfs", "tmpfs", "nfs", ... or a hex number
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // for this user
  bool writable = false;
  bool o_direct = false;
  uint64_t direct_alignment = 0;  // bytes; 0 without o_direct
  std::string direct_reason;      // why not, one sentence; empty when o_direct
  bool io_uring = false;
  std::string io_uring_reason;  // why not, one sentence; empty when io_uring
};

// Tries it out: makes and removes one small file in `path` (a folder, or one that can be made: then
// its nearest existing parent is looked at, and nothing is made). not_found, invalid_argument for a
// file.
UCM_API Result<IoCapabilities> io_capabilities(const std::string& path);

}  // namespace ucm
