// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "base/eviction.h"
#include "base/eviction_ghosts.h"

namespace ucm::base {
namespace {

std::unique_ptr<EvictionPolicy> make(std::string_view name, uint32_t capacity) {
  return std::move(make_eviction_policy(name, capacity)).value();
}

class EveryPolicy : public testing::TestWithParam<std::string_view> {};

// The first victim that the predicate allows, checked against what the policy should know.
void check_evict(EvictionPolicy& policy, std::set<uint32_t>& known,
                 const std::set<uint32_t>& pinned) {
  const auto victim = policy.evict([&](uint32_t slot) {
    EXPECT_TRUE(known.contains(slot)) << "asks for " << slot << ", which it should not know";
    return !pinned.contains(slot);
  });
  const bool possible = std::any_of(known.begin(), known.end(),
                                    [&](uint32_t slot) { return !pinned.contains(slot); });
  ASSERT_EQ(victim.has_value(), possible);
  if (!victim) return;
  ASSERT_FALSE(pinned.contains(*victim));
  ASSERT_EQ(known.erase(*victim), 1u);
}

TEST_P(EveryPolicy, LosesNoSlotEvictsNoneTwiceAndAsksBeforeItEvicts) {
  for (const uint32_t capacity : {1u, 2u, 3u, 10u, 64u, 300u}) {
    const auto policy = make(GetParam(), capacity);
    std::set<uint32_t> known;
    std::set<uint32_t> pinned;
    std::mt19937 random(capacity);
    for (int step = 0; step < 30000; ++step) {
      const uint32_t slot = random() % capacity;
      // Few keys, so that ghosts come back, also twice and under another slot.
      const uint64_t fingerprint = random() % (3 * capacity);
      switch (random() % 8) {
        case 0:
        case 1:
          policy->insert(slot, fingerprint);
          known.insert(slot);
          break;
        case 2:
        case 3:
          policy->touch(slot);
          break;
        case 4:
          policy->erase(slot);
          known.erase(slot);
          break;
        case 5:
          if (!pinned.erase(slot) && random() % 2 == 0) pinned.insert(slot);
          break;
        default:
          check_evict(*policy, known, pinned);
          if (HasFatalFailure()) return;
      }
    }
    while (!known.empty()) {
      check_evict(*policy, known, {});
      ASSERT_FALSE(HasFatalFailure());
    }
    EXPECT_EQ(policy->evict([](uint32_t) { return true; }), std::nullopt);
  }
}

TEST_P(EveryPolicy, FindsTheOneSlotThatIsNotPinnedWhereverItIs) {
  constexpr uint32_t kSlots = 50;
  for (uint32_t free = 0; free < kSlots; ++free) {
    const auto policy = make(GetParam(), kSlots);
    for (uint32_t slot = 0; slot < kSlots; ++slot) policy->insert(slot, slot);
    for (uint32_t slot = 0; slot < kSlots; slot += 3) policy->touch(slot);
    for (uint32_t slot = 0; slot < kSlots; slot += 6) policy->touch(slot);
    const auto only_free = [free](uint32_t slot) { return slot == free; };
    ASSERT_EQ(policy->evict(only_free), free);
    ASSERT_EQ(policy->evict(only_free), std::nullopt);
  }
}

TEST_P(EveryPolicy, ForgetsADisplacedSlot) {
  const auto policy = make(GetParam(), 4);
  policy->displace(2);
  for (uint32_t slot = 0; slot < 4; ++slot) policy->insert(slot, slot);
  policy->displace(0);
  policy->displace(0);
  std::set<uint32_t> left;
  while (const auto victim = policy->evict([](uint32_t) { return true; })) left.insert(*victim);
  EXPECT_EQ(left, (std::set<uint32_t>{1, 2, 3}));
}

TEST_P(EveryPolicy, KeepsWhatIsUsedAgainAndAgainWhileOthersPass) {
  constexpr uint32_t kSlots = 100;
  const auto policy = make(GetParam(), kSlots);
  for (uint32_t slot = 0; slot < kSlots; ++slot) policy->insert(slot, slot);
  for (uint64_t key = kSlots; key < 20 * kSlots; ++key) {
    policy->touch(7);
    const uint32_t victim = policy->evict([](uint32_t) { return true; }).value();
    ASSERT_NE(victim, 7u);
    policy->insert(victim, key);
  }
}

INSTANTIATE_TEST_SUITE_P(Eviction, EveryPolicy,
                         testing::Values("auto", "lru", "arc", "lru2", "s3fifo"),
                         [](const auto& each) { return std::string(each.param); });

TEST(EvictionPolicies, RefuseMoreSlotsThanTheirNumbersHaveRoomFor) {
  EXPECT_EQ(make_eviction_policy("auto", 1u << 30).status().code(), Code::invalid_argument);
  EXPECT_EQ(make_eviction_policy("lru2", 0xFFFFFFFF).status().code(), Code::invalid_argument);
}

TEST(GhostLists, AgreeWithAnOrderedSetUnderRandomCalls) {
  GhostLists ghosts;
  std::vector<std::pair<uint32_t, uint8_t>> model;  // oldest first
  std::mt19937 random(11);
  const auto of_list = [&](uint8_t list) {
    return std::find_if(model.begin(), model.end(),
                        [&](auto& each) { return each.second == list; });
  };
  for (int step = 0; step < 20000; ++step) {
    const uint32_t fingerprint = random() % 200 * 0x10001;
    const uint8_t list = random() % 2;
    const auto known = std::find_if(model.begin(), model.end(),
                                    [&](auto& each) { return each.first == fingerprint; });
    const uint32_t found = ghosts.find(fingerprint);
    ASSERT_EQ(found != GhostLists::kNone, known != model.end());
    if (known != model.end()) {
      ASSERT_EQ(ghosts.list_of(found), known->second);
    }
    switch (random() % 3) {
      case 0:
        ghosts.push(list, fingerprint);
        if (known != model.end()) model.erase(known);
        model.emplace_back(fingerprint, list);
        break;
      case 1:
        if (known == model.end()) break;
        ghosts.remove(found);
        model.erase(known);
        break;
      default:
        ASSERT_EQ(ghosts.size(list) > 0, of_list(list) != model.end());
        if (ghosts.size(list) == 0) break;
        ASSERT_EQ(ghosts.oldest(list), ghosts.find(of_list(list)->first));
        ghosts.pop_oldest(list);
        model.erase(of_list(list));
    }
    ASSERT_EQ(ghosts.size(), model.size());
  }
}

}  // namespace
}  // namespace ucm::base
