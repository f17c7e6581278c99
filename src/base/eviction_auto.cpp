// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_auto.h"

#include <algorithm>
#include <utility>

namespace ucm::base {
namespace {

// Small caches sample more of their keys, so that a shadow stays large enough to be like the whole.
constexpr uint32_t kShadowSlots = 1024;
constexpr unsigned kMostSampleBits = 7;
constexpr uint32_t kSamplesPerComparison = 64;
// Half of the weight is on the last 4,400 samples.
constexpr double kFade = 0.99;
// The lead that lru2 needs, in hits and as a share of those of lru: less is noise. Also, only hits
// in the unbroken head of a chain are of use, and lru2 holds more parts of chains without heads.
constexpr double kLeastLead = 24;
constexpr double kLeastLeadShare = 0.06;

unsigned sample_bits(uint32_t capacity) {
  unsigned bits = 0;
  while (bits < kMostSampleBits && (capacity >> (bits + 1)) >= kShadowSlots) ++bits;
  return bits;
}

}  // namespace

AutoPolicy::AutoPolicy(uint32_t capacity, StateArena& arena, FingerprintOf owner)
    : sample_bits_(sample_bits(capacity)),
      shadow_slots_(std::max(1u, capacity >> sample_bits_)),
      state_(arena.take<State>(1)),
      slots_(capacity, arena, std::move(owner)),
      lru_(shadow_slots_, arena),
      lru2_(shadow_slots_, arena, [this](uint32_t slot) { return lru2_shadow_.fingerprint(slot); }),
      lru_shadow_(shadow_slots_, lru_, arena),
      lru2_shadow_(shadow_slots_, lru2_, arena) {}

void AutoPolicy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  if (state_->begun == 0) {
    // Until lru2 is better.
    slots_.follow(Lru2Policy::Order::last_use);
    state_->begun = 1;
  }
  ++state_->held;
  slots_.insert(slot, fingerprint);
  use(slots_.fingerprint(slot));
}

void AutoPolicy::touch(uint32_t slot) {
  if (!slots_.known(slot)) return;
  slots_.touch(slot);
  use(slots_.fingerprint(slot));
}

void AutoPolicy::erase(uint32_t slot) {
  if (!slots_.known(slot)) return;
  --state_->held;
  slots_.erase(slot);
  const uint32_t fingerprint = slots_.fingerprint(slot);
  if (!sampled(fingerprint)) return;
  lru_shadow_.forget(fingerprint);
  lru2_shadow_.forget(fingerprint);
}

std::optional<uint32_t> AutoPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  const auto victim = slots_.evict(evictable);
  if (!victim) return victim;
  // What is in use now is what fits: a store may be kept below its capacity.
  const uint32_t shadow_slots = state_->held >> sample_bits_;
  lru_shadow_.resize(shadow_slots);
  lru2_shadow_.resize(shadow_slots);
  --state_->held;
  return victim;
}

void AutoPolicy::use(uint32_t fingerprint) {
  if (!sampled(fingerprint)) return;
  state_->hits[0] += lru_shadow_.use(fingerprint);
  state_->hits[1] += lru2_shadow_.use(fingerprint);
  if (++state_->samples < kSamplesPerComparison) return;
  state_->samples = 0;
  compare();
}

void AutoPolicy::compare() {
  const double lead = state_->hits[1] - state_->hits[0] * (1 + kLeastLeadShare);
  if (lead > kLeastLead) slots_.follow(Lru2Policy::Order::two_uses);
  if (lead < 0) slots_.follow(Lru2Policy::Order::last_use);
  for (double& hits : state_->hits) hits *= kFade;
}

}  // namespace ucm::base
