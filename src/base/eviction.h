// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "ucm/status.h"

namespace ucm::base {

// Decides which slot of a fixed set leaves next. Slots are numbers from 0 to capacity - 1; the
// policy knows them only after `insert`. Not thread-safe: the owner's lock guards it.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  // `fingerprint` is mix(key): policies with ghosts recognise what came back by it.
  virtual void insert(uint32_t slot, uint64_t fingerprint) = 0;
  virtual void touch(uint32_t slot) = 0;
  // The slot was freed by somebody else (removed, damaged). Unknown slots are ignored.
  virtual void erase(uint32_t slot) = 0;
  // The next victim for which `evictable` says yes; it is forgotten by the policy. None: empty.
  virtual std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) = 0;
};

// "lru", "arc", "lru2", "s3fifo", "auto"; invalid_argument names them. out_of_memory.
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             uint32_t capacity);
// The same over memory of the caller, 8-byte aligned, which holds all that the policy knows, as
// plain numbers: zeroed memory is an empty policy, and other processes may attach to the same
// memory; one calls at a time.
Result<std::unique_ptr<EvictionPolicy>> attach_eviction_policy(std::string_view name,
                                                               uint32_t capacity,
                                                               std::span<std::byte> state);
// How much memory that is. At most 32 bytes a slot, and 192 KiB more below 32,768 slots.
Result<size_t> eviction_state_bytes(std::string_view name, uint32_t capacity);

std::span<const std::string_view> eviction_policy_names();

}  // namespace ucm::base
