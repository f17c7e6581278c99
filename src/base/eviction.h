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

// The fingerprint that a slot which a policy knows was inserted with: an owner that keeps the keys
// of its slots saves the policy's memory for it.
using FingerprintOf = std::function<uint64_t(uint32_t slot)>;

// Decides which slot of a fixed set leaves next. Slots are numbers from 0 to capacity - 1; the
// policy knows them only after `insert`. Not thread-safe: the owner's lock guards it.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  // `fingerprint` is mix(key): policies with ghosts recognise what came back by it.
  virtual void insert(uint32_t slot, uint64_t fingerprint) = 0;
  virtual void touch(uint32_t slot) = 0;
  // No further use: of slots whose last use was the same one, those told later count as used later.
  virtual void renew(uint32_t slot) = 0;
  // The slot was freed by somebody else (removed, damaged). Unknown slots are ignored.
  virtual void erase(uint32_t slot) = 0;
  // The next victim for which `evictable` says yes; it is forgotten by the policy. None: empty.
  virtual std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) = 0;
};

// "lru", "arc", "lru2", "s3fifo", "auto"; invalid_argument names them. out_of_memory.
Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             uint32_t capacity,
                                                             FingerprintOf owner = {});
// The same over memory of the caller, 8-byte aligned, which holds all that the policy knows, as
// plain numbers: zeroed memory is an empty policy, and other processes may attach to the same
// memory; one calls at a time.
Result<std::unique_ptr<EvictionPolicy>> attach_eviction_policy(std::string_view name,
                                                               uint32_t capacity,
                                                               std::span<std::byte> state,
                                                               FingerprintOf owner = {});
// How much memory that is, where the owner tells the fingerprints: at most 19 bytes a slot, and
// 160 KiB more below 131,072 slots. Where it does not, 4 bytes a slot more.
Result<size_t> eviction_state_bytes(std::string_view name, uint32_t capacity,
                                    bool owner_tells = false);
// Numbers of slots and of two ghosts a slot fit into 32 bits: a policy has fewer slots than this.
inline constexpr uint32_t kTooManySlots = 1u << 30;

// A policy's place in this list may stand for it in memory that builds of one version share.
std::span<const std::string_view> eviction_policy_names();

}  // namespace ucm::base
