// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "memory/shared_segment.h"
#include "memory/slot_memory.h"
#include "stages/cache/slot_directory.h"
#include "ucm/layout.h"

namespace ucm::stages::cache {

// The memory of a SlotTable and of its slots.
struct PoolMemory {
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<memory::SharedSegment> segment;  // null: memory of this process
  std::unique_ptr<std::byte, Free> own;
  SlotDirectory directory;
  BlockKey mask;  // a block's key is in the directory with this xored into it
  std::unique_ptr<memory::SlotMemory> slots;  // null: lookups and removals only
};

// Where a shared pool is met, and whose blocks in it are meant: those of other namespaces in the
// same pool have other masks, and so never meet.
struct PoolPlace {
  std::string name;
  BlockKey mask = {};
};

// A directory and slots of this process alone, evicted by this policy.
Result<PoolMemory> make_own_pool(const BlockLayout& layout, const PoolOptions& options,
                                 std::string_view policy);
// The pool that the processes of this user share in `place`, for blocks of this layout: the one
// that is there, with the slots and the policy it was made with, or a fresh one.
Result<PoolMemory> join_shared_pool(const PoolPlace& place, const BlockLayout& layout,
                                    const PoolOptions& options, std::string_view policy);
// Where the pools of a name are met now, one for each layout in use.
Result<std::vector<std::string>> find_shared_pools(const std::string& name);
// A pool for lookups and removals. not_found when nobody has it open.
Result<PoolMemory> watch_shared_pool(const std::string& path);

}  // namespace ucm::stages::cache
