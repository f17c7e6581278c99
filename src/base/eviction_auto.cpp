// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_auto.h"

#include <algorithm>

#include "base/eviction_arc.h"
#include "base/eviction_lru.h"
#include "base/eviction_lru2.h"

namespace ucm::base {
namespace {

// Small caches sample more of their keys, so that a shadow stays large enough to be like the whole.
constexpr uint32_t kShadowSlots = 1024;
constexpr unsigned kMostSampleBits = 6;
constexpr unsigned kSamplesPerComparison = 64;
// Half of the weight is on the last 2,200 samples.
constexpr double kFade = 0.98;
// The lead that a candidate needs, in hits and as a share of the leader's: less is noise.
constexpr double kLeastLead = 8;
constexpr double kLeastLeadShare = 0.02;

template <typename Policy>
std::unique_ptr<EvictionPolicy> make(uint32_t slots) {
  return std::make_unique<Policy>(slots);
}

struct Maker {
  std::string_view name;
  std::unique_ptr<EvictionPolicy> (*make)(uint32_t slots);
  // What a hit counts. Only hits in the unbroken head of a chain are of use; arc holds parts of
  // chains without their heads, up to some percent of its hits; lru and lru2 hold few.
  double worth;
};
// The first one leads until another is better. With S3-FIFO as a fourth the leader changes more
// often, and the traces are hit a little less.
constexpr Maker kMakers[] = {
    {"lru", make<LruPolicy>, 1}, {"arc", make<ArcPolicy>, 0.985}, {"lru2", make<Lru2Policy>, 1}};

}  // namespace

AutoPolicy::AutoPolicy(uint32_t capacity) {
  while (sample_bits_ < kMostSampleBits && (capacity >> (sample_bits_ + 1)) >= kShadowSlots) {
    ++sample_bits_;
  }
  const uint32_t shadow_slots = std::max(1u, capacity >> sample_bits_);
  for (const Maker& maker : kMakers) {
    candidates_.push_back({maker.name, maker.worth, maker.make(capacity),
                           std::make_unique<ShadowCache>(maker.make(shadow_slots), shadow_slots)});
  }
}

void AutoPolicy::insert(uint32_t slot, uint64_t fingerprint) {
  erase(slot);
  if (slot >= known_.size()) {
    known_.resize(slot + 1);
    fingerprints_.resize(slot + 1);
  }
  known_[slot] = true;
  ++held_;
  fingerprints_[slot] = fingerprint;
  for (Candidate& each : candidates_) each.policy->insert(slot, fingerprint);
  use(fingerprint);
}

void AutoPolicy::touch(uint32_t slot) {
  if (!known(slot)) return;
  for (Candidate& each : candidates_) each.policy->touch(slot);
  use(fingerprints_[slot]);
}

void AutoPolicy::erase(uint32_t slot) {
  if (!known(slot)) return;
  known_[slot] = false;
  --held_;
  const bool in_shadows = sampled(fingerprints_[slot]);
  for (Candidate& each : candidates_) {
    each.policy->erase(slot);
    if (in_shadows) each.shadow->forget(fingerprints_[slot]);
  }
}

std::optional<uint32_t> AutoPolicy::evict(const std::function<bool(uint32_t)>& evictable) {
  const auto victim = candidates_[leader_].policy->evict(evictable);
  if (!victim) return victim;
  // What is in use now is what fits: a store may be kept below its capacity.
  const uint32_t shadow_slots = held_ >> sample_bits_;
  for (size_t i = 0; i < candidates_.size(); ++i) {
    if (i != leader_) candidates_[i].policy->displace(*victim);
    candidates_[i].shadow->resize(shadow_slots);
  }
  known_[*victim] = false;
  --held_;
  return victim;
}

bool AutoPolicy::sampled(uint64_t fingerprint) const {
  return (fingerprint & ((uint64_t{1} << sample_bits_) - 1)) == 0;
}

void AutoPolicy::use(uint64_t fingerprint) {
  if (!sampled(fingerprint)) return;
  for (Candidate& each : candidates_) each.hits += each.shadow->use(fingerprint) ? each.worth : 0;
  if (++samples_ < kSamplesPerComparison) return;
  samples_ = 0;
  compare();
}

void AutoPolicy::compare() {
  const auto best = std::max_element(candidates_.begin(), candidates_.end(),
                                     [](const auto& a, const auto& b) { return a.hits < b.hits; });
  const double now = candidates_[leader_].hits;
  if (best->hits - now > kLeastLead + kLeastLeadShare * now) {
    leader_ = static_cast<size_t>(best - candidates_.begin());
  }
  for (Candidate& each : candidates_) each.hits *= kFade;
}

}  // namespace ucm::base
