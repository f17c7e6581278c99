// SPDX-License-Identifier: Apache-2.0
#include "store/capacity_shadow.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "test_blocks.h"

namespace ucm::test {
namespace {

// What a cache of `slots` blocks hits of a loop over `loop` blocks, some of them popular.
struct Load {
  explicit Load(uint64_t blocks) : blocks_(blocks) {}
  BlockKey next() { return make_key(std::min(random_() % blocks_, random_() % blocks_)); }

 private:
  std::mt19937 random_{7};
  uint64_t blocks_;
};

double value(const base::MetricRegistry& registry, const std::string& name) {
  for (const MetricSample& sample : registry.samples()) {
    if (sample.name == name) return sample.value;
  }
  return -1;
}

double shadow_rate(const base::MetricRegistry& registry) {
  return value(registry, "ucm_shadow_lookup_hit_blocks_total") /
         value(registry, "ucm_shadow_lookup_blocks_total");
}

// The rate a real store of so many slots has under lru.
double real_rate(uint32_t slots, uint64_t blocks, int uses) {
  const auto policy = std::move(base::make_eviction_policy("lru", slots)).value();
  std::unordered_map<BlockKey, uint32_t> held;
  std::vector<BlockKey> keys(slots);
  Load load(blocks);
  int hits = 0;
  for (int i = 0; i < uses; ++i) {
    const BlockKey key = load.next();
    if (const auto found = held.find(key); found != held.end()) {
      ++hits;
      policy->touch(found->second);
      continue;
    }
    auto slot = static_cast<uint32_t>(held.size());
    if (held.size() == slots) {
      slot = policy->evict([](uint32_t) { return true; }).value();
      held.erase(keys[slot]);
    }
    keys[slot] = key;
    held[key] = slot;
    policy->insert(slot, mix(key));
  }
  return static_cast<double>(hits) / uses;
}

TEST(CapacityShadow, TellsTheHitRateOfTwiceTheCapacity) {
  for (const uint32_t capacity : {500u, 20000u}) {
    constexpr int kUses = 400000;
    const uint64_t blocks = 6 * capacity;
    base::MetricRegistry registry;
    const auto shadow = CapacityShadow::make("lru", capacity, &registry, "Cache");
    Load load(blocks);
    for (int i = 0; i < kUses; ++i) {
      const BlockKey key = load.next();
      shadow->looked_up({&key, 1}, false);
      shadow->used(key);
    }
    EXPECT_NEAR(shadow_rate(registry), real_rate(2 * capacity, blocks, kUses), 0.02) << capacity;
    EXPECT_GT(shadow_rate(registry), real_rate(capacity, blocks, kUses) + 0.1) << capacity;
  }
}

TEST(CapacityShadow, CountsOfAPrefixOnlyTheUnbrokenHead) {
  base::MetricRegistry registry;
  const auto shadow = CapacityShadow::make("auto", 100, &registry, "Disk");
  const auto keys = make_keys(0, 10);
  for (const BlockKey& key : keys) shadow->used(key);
  shadow->removed(make_keys(4, 1));
  shadow->looked_up(keys, true);
  EXPECT_EQ(value(registry, "ucm_shadow_lookup_blocks_total"), 10);
  EXPECT_EQ(value(registry, "ucm_shadow_lookup_hit_blocks_total"), 4);
  shadow->looked_up(keys, false);
  EXPECT_EQ(value(registry, "ucm_shadow_lookup_hit_blocks_total"), 4 + 9);
}

}  // namespace
}  // namespace ucm::test
