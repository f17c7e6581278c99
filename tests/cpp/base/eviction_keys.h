// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <unordered_map>
#include <vector>

#include "base/eviction.h"
#include "base/eviction_state.h"

namespace ucm::base {

// A policy of a known type over memory of its own.
template <typename Policy>
class Placed {
 public:
  template <typename... Args>
  explicit Placed(uint32_t capacity, Args&... args)
      : memory_((bytes(capacity, args...) + 7) / 8),
        arena_(reinterpret_cast<std::byte*>(memory_.data())),
        policy_(capacity, args..., arena_) {}

  Policy& operator*() { return policy_; }
  Policy* operator->() { return &policy_; }

 private:
  template <typename... Args>
  static size_t bytes(uint32_t capacity, Args&... args) {
    StateArena counted(nullptr);
    const Policy policy(capacity, args..., counted);
    return counted.used();
  }
  std::vector<uint64_t> memory_;
  StateArena arena_;
  Policy policy_;
};

// A cache of keys that are their own fingerprints, around a policy: what the stages do with one.
class KeyCache {
 public:
  // `keys` has the key of each slot, where somebody else wants to know.
  KeyCache(EvictionPolicy& policy, uint32_t capacity, std::vector<uint64_t>* keys = nullptr)
      : policy_(&policy), own_keys_(capacity), keys_(keys ? *keys : own_keys_) {}

  // Another object over the same state.
  void go_on_with(EvictionPolicy& policy) { policy_ = &policy; }
  bool holds(uint64_t key) const { return slots_.contains(key); }
  size_t size() const { return slots_.size(); }
  // A use of the key; the answer is the key that left for it, if any.
  std::optional<uint64_t> use(uint64_t key) {
    if (const auto found = slots_.find(key); found != slots_.end()) {
      policy_->touch(found->second);
      return std::nullopt;
    }
    std::optional<uint64_t> left;
    uint32_t slot = static_cast<uint32_t>(slots_.size());
    if (slots_.size() == keys_.size()) {
      slot = policy_->evict([](uint32_t) { return true; }).value();
      left = keys_[slot];
      slots_.erase(keys_[slot]);
    }
    keys_[slot] = key;
    slots_[key] = slot;
    policy_->insert(slot, key);
    return left;
  }

 private:
  EvictionPolicy* policy_;
  std::vector<uint64_t> own_keys_;
  std::vector<uint64_t>& keys_;  // by slot
  std::unordered_map<uint64_t, uint32_t> slots_;
};

}  // namespace ucm::base
