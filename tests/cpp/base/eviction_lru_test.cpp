// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_lru.h"

#include <gtest/gtest.h>

#include <list>
#include <random>

#include "eviction_keys.h"

namespace ucm::base {
namespace {

const auto kAny = [](uint32_t) { return true; };

TEST(Lru, AgreesWithAListUnderRandomCalls) {
  constexpr uint32_t kSlots = 40;
  Placed<LruPolicy> placed(kSlots);
  LruPolicy& policy = *placed;
  std::list<uint32_t> model;  // oldest first
  std::mt19937 random(3);
  for (int step = 0; step < 20000; ++step) {
    const uint32_t slot = random() % kSlots;
    const bool known = std::find(model.begin(), model.end(), slot) != model.end();
    switch (random() % 4) {
      case 0:
        policy.insert(slot, slot);
        model.remove(slot);
        model.push_back(slot);
        break;
      case 1:
        policy.touch(slot);
        if (known) {
          model.remove(slot);
          model.push_back(slot);
        }
        break;
      case 2:
        policy.erase(slot);
        model.remove(slot);
        break;
      default: {
        const auto victim = policy.evict(kAny);
        ASSERT_EQ(victim.has_value(), !model.empty());
        if (!victim) break;
        ASSERT_EQ(*victim, model.front());
        model.pop_front();
      }
    }
  }
}

TEST(Lru, SkipsWhatCanNotBeEvicted) {
  Placed<LruPolicy> placed(3);
  LruPolicy& policy = *placed;
  for (uint32_t slot = 0; slot < 3; ++slot) policy.insert(slot, slot);
  EXPECT_EQ(policy.evict([](uint32_t slot) { return slot != 0; }), 1u);
  EXPECT_EQ(policy.evict([](uint32_t) { return false; }), std::nullopt);
  EXPECT_EQ(policy.evict(kAny), 0u);
}

TEST(EvictionPolicies, AreMadeByNameAndAnUnknownNameIsAnswered) {
  for (const std::string_view name : eviction_policy_names()) {
    auto policy = make_eviction_policy(name, 8);
    ASSERT_TRUE(policy.ok()) << name;
    policy.value()->insert(5, 99);
    EXPECT_EQ(policy.value()->evict(kAny), 5u);
    EXPECT_EQ(policy.value()->evict(kAny), std::nullopt);
  }
  EXPECT_EQ(make_eviction_policy("mru", 8).status().code(), Code::invalid_argument);
}

}  // namespace
}  // namespace ucm::base
