// SPDX-License-Identifier: Apache-2.0
#include "base/lasting_memory.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

namespace ucm::base {
namespace {

struct MemoryList {
  std::mutex mutex;
  std::vector<LastingMemory> all;
  uint64_t last_id = 0;
  std::atomic<uint64_t> changes{0};
};

// Never destroyed: threads left behind by a hanging device may still ask while the process ends.
MemoryList& list() {
  static MemoryList* const kList = new MemoryList;
  return *kList;
}

}  // namespace

uint64_t announce_memory(const void* data, size_t bytes, size_t unit_bytes) {
  MemoryList& memory = list();
  const std::lock_guard lock(memory.mutex);
  memory.all.push_back({++memory.last_id, static_cast<const std::byte*>(data), bytes,
                        std::max<size_t>(unit_bytes, 1)});
  memory.changes.fetch_add(1, std::memory_order_release);
  return memory.last_id;
}

void withdraw_memory(uint64_t id) {
  MemoryList& memory = list();
  const std::lock_guard lock(memory.mutex);
  std::erase_if(memory.all, [id](const LastingMemory& one) { return one.id == id; });
  memory.changes.fetch_add(1, std::memory_order_release);
}

LastingMemory find_memory(const void* first, size_t bytes) {
  MemoryList& memory = list();
  const std::lock_guard lock(memory.mutex);
  for (const LastingMemory& one : memory.all) {
    if (one.holds(first, bytes)) return one;
  }
  return {};
}

uint64_t memory_changes() { return list().changes.load(std::memory_order_acquire); }

bool memory_announced(uint64_t id) {
  MemoryList& memory = list();
  const std::lock_guard lock(memory.mutex);
  return std::any_of(memory.all.begin(), memory.all.end(),
                     [id](const LastingMemory& one) { return one.id == id; });
}

}  // namespace ucm::base
