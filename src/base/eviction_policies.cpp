// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdlib>
#include <string>

#include "base/eviction_arc.h"
#include "base/eviction_auto.h"
#include "base/eviction_lru.h"
#include "base/eviction_lru2.h"
#include "base/eviction_s3fifo.h"

namespace ucm::base {
namespace {

// Memory that the system zeroes as it is touched: large stores begin small.
struct Freed {
  void operator()(std::byte* memory) const { std::free(memory); }
};
using StateMemory = std::unique_ptr<std::byte, Freed>;

struct OwnState {
  StateMemory memory;
  StateArena arena;
};

// A policy over memory of its own, or, with null, over that of the arena.
template <typename Policy>
class Placed final : private OwnState, public Policy {
 public:
  Placed(uint32_t capacity, StateMemory own, std::byte* state, FingerprintOf owner)
      : OwnState{std::move(own), StateArena(state)},
        Policy(capacity, this->arena, std::move(owner)) {}
};

struct Maker {
  std::string_view name;
  std::unique_ptr<EvictionPolicy> (*make)(uint32_t capacity, StateMemory memory, std::byte* state,
                                          FingerprintOf owner);
  size_t (*bytes)(uint32_t capacity, bool owner_tells);
};

template <typename Policy>
constexpr Maker maker(std::string_view name) {
  return {name,
          [](uint32_t capacity, StateMemory memory, std::byte* state, FingerprintOf owner) {
            return std::unique_ptr<EvictionPolicy>(std::make_unique<Placed<Policy>>(
                capacity, std::move(memory), state, std::move(owner)));
          },
          [](uint32_t capacity, bool owner_tells) {
            StateArena counted(nullptr);
            FingerprintOf owner;
            if (owner_tells) owner = [](uint32_t) { return uint64_t{0}; };
            const Policy policy(capacity, counted, std::move(owner));
            return counted.used();
          }};
}

constexpr std::array<Maker, 5> kMakers = {maker<AutoPolicy>("auto"), maker<LruPolicy>("lru"),
                                          maker<ArcPolicy>("arc"), maker<Lru2Policy>("lru2"),
                                          maker<S3FifoPolicy>("s3fifo")};
constexpr std::array<std::string_view, kMakers.size()> kNames = {
    kMakers[0].name, kMakers[1].name, kMakers[2].name, kMakers[3].name, kMakers[4].name};

Result<const Maker*> find_maker(std::string_view name, uint32_t capacity) {
  if (capacity == 0 || capacity >= kTooManySlots) {
    return make_status(Code::invalid_argument, "eviction_policy: %u slots; 1 to %u are possible",
                       capacity, kTooManySlots - 1);
  }
  for (const Maker& each : kMakers) {
    if (each.name == name) return &each;
  }
  return make_status(Code::invalid_argument,
                     "eviction_policy: '%s' is none of auto, lru, arc, lru2, s3fifo",
                     std::string(name).c_str());
}

}  // namespace

std::span<const std::string_view> eviction_policy_names() { return kNames; }

Result<size_t> eviction_state_bytes(std::string_view name, uint32_t capacity, bool owner_tells) {
  UCM_TRY_ASSIGN(const Maker* found, find_maker(name, capacity));
  return found->bytes(capacity, owner_tells);
}

Result<std::unique_ptr<EvictionPolicy>> make_eviction_policy(std::string_view name,
                                                             uint32_t capacity,
                                                             FingerprintOf owner) {
  UCM_TRY_ASSIGN(const Maker* found, find_maker(name, capacity));
  const size_t bytes = found->bytes(capacity, owner != nullptr);
  StateMemory memory(static_cast<std::byte*>(std::calloc(bytes, 1)));
  if (memory == nullptr) {
    return make_status(Code::out_of_memory, "eviction_policy: %zu bytes for %u slots", bytes,
                       capacity);
  }
  std::byte* const state = memory.get();
  return found->make(capacity, std::move(memory), state, std::move(owner));
}

Result<std::unique_ptr<EvictionPolicy>> attach_eviction_policy(std::string_view name,
                                                               uint32_t capacity,
                                                               std::span<std::byte> state,
                                                               FingerprintOf owner) {
  UCM_TRY_ASSIGN(const Maker* found, find_maker(name, capacity));
  const size_t bytes = found->bytes(capacity, owner != nullptr);
  const bool aligned = reinterpret_cast<uintptr_t>(state.data()) % alignof(uint64_t) == 0;
  if (state.size() < bytes || !aligned) {
    return make_status(Code::invalid_argument,
                       "eviction_policy: %zu bytes of memory for %zu, aligned to 8", state.size(),
                       bytes);
  }
  return found->make(capacity, nullptr, state.data(), std::move(owner));
}

}  // namespace ucm::base
