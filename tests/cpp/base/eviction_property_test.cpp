// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "base/eviction.h"
#include "base/eviction_ghosts.h"
#include "eviction_keys.h"
#include "ucm/key.h"

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
      switch (random() % 9) {
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
        case 6:
          policy->renew(slot);
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

TEST_P(EveryPolicy, GoesOnInMemoryThatHasMoved) {
  constexpr uint32_t kSlots = 300;
  const size_t bytes = eviction_state_bytes(GetParam(), kSlots).value();
  std::vector<uint64_t> here(bytes / 8 + 1);
  std::vector<uint64_t> there;
  const auto attach = [&](std::vector<uint64_t>& memory) {
    return std::move(attach_eviction_policy(GetParam(), kSlots,
                                            std::as_writable_bytes(std::span(memory))))
        .value();
  };
  const auto stays = make(GetParam(), kSlots);
  auto moves = attach(here);
  KeyCache one(*stays, kSlots);
  std::mt19937 random(4);
  std::vector<uint64_t> keys(20000);
  for (uint64_t& key : keys) key = std::min(random() % 1000, random() % 1000);
  std::vector<std::optional<uint64_t>> expected;
  for (const uint64_t key : keys) expected.push_back(one.use(key));
  auto two = std::make_unique<KeyCache>(*moves, kSlots);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (i % 5000 == 4999) {
      there = here;
      std::fill(here.begin(), here.end(), ~uint64_t{0});
      here.swap(there);  // the policy's memory is now at another address
      moves = attach(here);
      two->go_on_with(*moves);
    }
    ASSERT_EQ(two->use(keys[i]), expected[i]) << "use " << i;
  }
}

TEST_P(EveryPolicy, TakesAtMost19BytesASlotWhenThereAreMany) {
  for (const uint32_t slots : {131072u, 131073u, 200000u, 262143u, 1000000u, 1u << 24}) {
    const size_t bytes = eviction_state_bytes(GetParam(), slots, true).value();
    EXPECT_LE(static_cast<double>(bytes) / slots, 19.0) << slots << " slots";
  }
  // Below that, shadows as large as that are what there is beside 19 bytes a slot.
  for (const uint32_t slots : {1u, 100u, 2047u, 20000u, 131071u}) {
    EXPECT_LE(eviction_state_bytes(GetParam(), slots, true).value(), 19 * slots + (160u << 10));
  }
  for (const uint32_t slots : {100u, 1000000u}) {
    EXPECT_LE(eviction_state_bytes(GetParam(), slots).value(),
              eviction_state_bytes(GetParam(), slots, true).value() + 4 * slots + 8);
  }
}

TEST_P(EveryPolicy, ChoosesTheSameVictimsWhenItsOwnerTellsTheFingerprints) {
  constexpr uint32_t kSlots = 500;
  const auto keeps = make(GetParam(), kSlots);
  std::vector<uint64_t> owned(kSlots);
  const auto asks = std::move(make_eviction_policy(GetParam(), kSlots, [&](uint32_t slot) {
                      return owned[slot];
                    })).value();
  KeyCache one(*keeps, kSlots);
  KeyCache two(*asks, kSlots, &owned);
  std::mt19937 random(14);
  for (int step = 0; step < 30000; ++step) {
    const uint64_t key = std::min(random() % 2000, random() % 2000);
    ASSERT_EQ(one.use(key), two.use(key)) << "use " << step;
  }
}

TEST_P(EveryPolicy, EvictsTheTailOfAChainBeforeItsHead) {
  // Chains as requests bring them: the tail is used first and the head last.
  constexpr uint32_t kSlots = 60;
  constexpr uint32_t kChain = 6;
  const auto policy = make(GetParam(), kSlots);
  for (const bool again : {false, true}) {
    for (uint32_t chain = 0; chain < kSlots / kChain; ++chain) {
      for (uint32_t place = kChain; place-- > 0;) {
        const uint32_t slot = chain * kChain + place;
        again ? policy->touch(slot) : policy->insert(slot, mix({slot, 77}));
      }
    }
  }
  std::vector<uint32_t> left(kSlots / kChain, kChain);
  while (const auto slot = policy->evict([](uint32_t) { return true; })) {
    const uint32_t chain = *slot / kChain;
    EXPECT_EQ(*slot % kChain, --left[chain]) << "of chain " << chain;
  }
}

// What tells each use once more.
class Renewing : public EvictionPolicy {
 public:
  explicit Renewing(std::unique_ptr<EvictionPolicy> policy) : policy_(std::move(policy)) {}
  void insert(uint32_t slot, uint64_t fingerprint) override {
    policy_->insert(slot, fingerprint);
    policy_->renew(slot);
  }
  void touch(uint32_t slot) override {
    policy_->touch(slot);
    policy_->renew(slot);
  }
  void renew(uint32_t slot) override { policy_->renew(slot); }
  void erase(uint32_t slot) override { policy_->erase(slot); }
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override {
    return policy_->evict(evictable);
  }

 private:
  const std::unique_ptr<EvictionPolicy> policy_;
};

TEST_P(EveryPolicy, CountsAUseThatIsToldAgainOnce) {
  constexpr uint32_t kSlots = 300;
  const auto once = make(GetParam(), kSlots);
  Renewing again(make(GetParam(), kSlots));
  KeyCache one(*once, kSlots);
  KeyCache two(again, kSlots);
  std::mt19937 random(15);
  for (int step = 0; step < 30000; ++step) {
    const uint64_t key = std::min(random() % 1500, random() % 1500);
    ASSERT_EQ(one.use(key), two.use(key)) << "use " << step;
  }
}

TEST_P(EveryPolicy, EvictsFirstWhatWasToldAgainFirst) {
  constexpr uint32_t kSlots = 40;
  const auto policy = make(GetParam(), kSlots);
  for (uint32_t slot = 0; slot < kSlots; ++slot) policy->insert(slot, mix({slot, 78}));
  for (uint32_t slot = kSlots; slot-- > 0;) policy->renew(slot);
  for (uint32_t slot = kSlots; slot-- > 0;) {
    EXPECT_EQ(policy->evict([](uint32_t) { return true; }), slot);
  }
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

TEST(EvictionPolicies, RefuseMemoryThatIsTooSmallOrNotAligned) {
  const size_t bytes = eviction_state_bytes("auto", 100).value();
  std::vector<uint64_t> words(bytes / 8 + 2);
  const auto memory = std::as_writable_bytes(std::span(words));
  EXPECT_TRUE(attach_eviction_policy("auto", 100, memory).ok());
  EXPECT_FALSE(attach_eviction_policy("auto", 100, memory.first(bytes - 1)).ok());
  EXPECT_FALSE(attach_eviction_policy("auto", 100, memory.subspan(4)).ok());
}

TEST(GhostTable, AgreesWithAQueueWhileOneLineHoldsAll) {
  Placed<GhostTable> ghosts(12);
  std::vector<std::pair<uint32_t, uint16_t>> model;  // newest first
  std::mt19937 random(11);
  for (int step = 0; step < 20000; ++step) {
    const uint32_t fingerprint = random() % 40 * 0x10001 + 1;
    const auto number = static_cast<uint16_t>(random() % 2);
    const auto known = std::find_if(model.begin(), model.end(),
                                    [&](auto& each) { return each.first == fingerprint; });
    const auto expected =
        known == model.end() ? std::nullopt : std::optional<uint16_t>(known->second);
    ASSERT_EQ(ghosts->find(fingerprint), expected);
    switch (random() % 3) {
      case 0: {
        ASSERT_EQ(ghosts->take(fingerprint), expected);
        if (expected) model.erase(known);
        break;
      }
      case 1: {
        if (expected) break;
        std::optional<uint16_t> left;
        if (model.size() == 12) {
          left = model.back().second;
          model.pop_back();
        }
        ASSERT_EQ(ghosts->push(fingerprint, number), left);
        model.insert(model.begin(), {fingerprint, number});
        break;
      }
      default: {
        const uint32_t limit = random() % 12;
        uint32_t kept = 0;
        const size_t gone = std::erase_if(
            model, [&](auto& each) { return each.second == number && ++kept > limit; });
        ASSERT_EQ(ghosts->trim(fingerprint, number, limit), gone);
      }
    }
  }
}

TEST(GhostTable, RemembersAlmostAllOfAsManyAsItHasRoomFor) {
  constexpr uint32_t kGhosts = 10000;
  Placed<GhostTable> ghosts(kGhosts);
  std::mt19937 random(12);
  std::vector<uint32_t> pushed(kGhosts);
  for (uint32_t& each : pushed) each = random();
  size_t wrong = 0;
  for (const uint32_t each : pushed) {
    wrong += ghosts->take(each).has_value();
    ghosts->push(each, 7);
  }
  const auto found = std::count_if(pushed.begin(), pushed.end(),
                                   [&](uint32_t each) { return ghosts->find(each).has_value(); });
  EXPECT_GT(found, kGhosts * 85 / 100);
  EXPECT_LT(wrong, 40u);
}

TEST(FingerprintTable, AgreesWithAMapUnderRandomCalls) {
  constexpr uint32_t kNumbers = 64;
  Placed<FingerprintTable> table(kNumbers);
  std::map<uint32_t, uint32_t> model;  // fingerprint -> number
  std::vector<uint32_t> fingerprint_of(kNumbers, 0);
  std::mt19937 random(13);
  for (int step = 0; step < 20000; ++step) {
    const uint32_t number = random() % kNumbers;
    const uint32_t fingerprint = 1 + random() % 100;
    if (fingerprint_of[number] != 0) {
      table->remove(number);
      model.erase(fingerprint_of[number]);
      fingerprint_of[number] = 0;
    } else if (!model.contains(fingerprint)) {
      table->add(number, fingerprint);
      model[fingerprint] = number;
      fingerprint_of[number] = fingerprint;
    }
    const auto known = model.find(fingerprint);
    ASSERT_EQ(table->find(fingerprint),
              known == model.end() ? FingerprintTable::kNone : known->second);
  }
}

}  // namespace
}  // namespace ucm::base
