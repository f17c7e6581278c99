// SPDX-License-Identifier: Apache-2.0
#include "store/capacity_shadow.h"

#include <algorithm>

namespace ucm {
namespace {

constexpr uint64_t kMostSlots = 2048;

size_t state_words(uint32_t slots, base::EvictionPolicy& policy) {
  base::StateArena counted(nullptr);
  const base::ShadowCache shadow(slots, policy, counted);
  return counted.used() / sizeof(uint64_t) + 1;
}

}  // namespace

std::unique_ptr<CapacityShadow> CapacityShadow::make(std::string_view policy, uint64_t capacity,
                                                     base::MetricRegistry* metrics,
                                                     const char* stage) {
  unsigned bits = 0;
  while ((2 * capacity) >> bits > kMostSlots) ++bits;
  const auto slots = static_cast<uint32_t>(std::max<uint64_t>(1, (2 * capacity) >> bits));
  auto made = base::make_eviction_policy(policy, slots);
  if (!made.ok()) return nullptr;
  return std::unique_ptr<CapacityShadow>(
      new CapacityShadow(std::move(made).value(), slots, bits, metrics, stage));
}

CapacityShadow::CapacityShadow(std::unique_ptr<base::EvictionPolicy> policy, uint32_t slots,
                               unsigned bits, base::MetricRegistry* metrics, const char* stage)
    : bits_(bits),
      asked_(metrics->counter("ucm_shadow_lookup_blocks_total", {{"stage", stage}})),
      hits_(metrics->counter("ucm_shadow_lookup_hit_blocks_total", {{"stage", stage}})),
      policy_(std::move(policy)),
      memory_(state_words(slots, *policy_)),
      arena_(reinterpret_cast<std::byte*>(memory_.data())),
      shadow_(slots, *policy_, arena_) {}

void CapacityShadow::looked_up(std::span<const BlockKey> keys, bool prefix) {
  size_t asked = 0;
  size_t hits = 0;
  bool unbroken = true;
  std::unique_lock lock(mutex_, std::defer_lock);
  for (const BlockKey& key : keys) {
    const uint64_t fingerprint = mix(key);
    if (!sampled(fingerprint)) continue;
    if (!lock.owns_lock()) lock.lock();
    ++asked;
    const bool held = shadow_.holds(base::short_fingerprint(fingerprint));
    unbroken = held && unbroken;
    hits += prefix ? unbroken : held;
  }
  asked_.add(asked);
  hits_.add(hits);
}

void CapacityShadow::used(const BlockKey& key) {
  const uint64_t fingerprint = mix(key);
  if (!sampled(fingerprint)) return;
  const std::lock_guard lock(mutex_);
  (void)shadow_.use(base::short_fingerprint(fingerprint));
}

void CapacityShadow::removed(std::span<const BlockKey> keys) {
  for (const BlockKey& key : keys) {
    const uint64_t fingerprint = mix(key);
    if (!sampled(fingerprint)) continue;
    const std::lock_guard lock(mutex_);
    shadow_.forget(base::short_fingerprint(fingerprint));
  }
}

}  // namespace ucm
