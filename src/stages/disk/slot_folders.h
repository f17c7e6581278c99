// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ucm/status.h"

namespace ucm::disk {

// A page store inside a storage backend: <backend>/<slot bytes>/.
struct SlotFolder {
  std::string path;
  uint64_t slot_bytes = 0;
  uint64_t allocated_bytes = 0;
  int64_t modified_ns = 0;  // when its index last changed
};

std::string slot_folder_path(const std::string& backend, uint64_t slot_bytes);
// The page stores of a backend, oldest first; empty when the backend does not exist.
Result<std::vector<SlotFolder>> list_slot_folders(const std::string& backend);

// How many bytes the store of `slot_bytes` may take in `backend`. `wanted` = 0: 90 % of what is
// free or ours, where `sharing` backends lie on the same file system. Stores of other slot sizes
// count against it; those nobody has open are removed, oldest first, until half of the capacity
// (or all that is stored already) is left for this one.
Result<uint64_t> make_room(const std::string& backend, uint64_t slot_bytes, uint64_t wanted,
                           uint64_t sharing);

}  // namespace ucm::disk
