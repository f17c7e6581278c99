// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_auto.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <set>
#include <unordered_map>

#include "eviction_keys.h"
#include "ucm/key.h"

namespace ucm::base {
namespace {

// Requests of chained blocks, as an engine sends them: the same seed gives the same trace.
using Trace = std::vector<std::vector<uint64_t>>;

uint64_t block(uint64_t session, uint64_t index) {
  return mix({session * 0x9E3779B97F4A7C15ull + index, session ^ (index << 40)});
}

constexpr size_t kContextBlocks = 100;

// Conversations that grow turn by turn behind a few system prompts. `stay` is the chance in percent
// that one goes on, `active` how many are open: many at once are too much for a small cache. Each
// ends when the context of the model is full.
Trace conversations(uint32_t seed, size_t requests, size_t active, unsigned stay) {
  std::mt19937 random(seed);
  struct Session {
    uint64_t id;
    uint64_t prompt;
    size_t blocks;
  };
  std::vector<Session> open;
  uint64_t next_id = 100;
  Trace trace;
  for (size_t i = 0; i < requests; ++i) {
    if (open.size() < active || random() % 100 >= stay) {
      if (open.size() >= active) open.erase(open.begin() + random() % open.size());
      open.push_back({next_id++, random() % 5, 2 + random() % 12});
    }
    const size_t chosen = std::min<size_t>(random() % open.size(), random() % open.size());
    Session& session = open[chosen];
    std::vector<uint64_t> request;
    for (uint64_t b = 0; b < 6; ++b) request.push_back(block(session.prompt, b));
    for (uint64_t b = 0; b < session.blocks; ++b) request.push_back(block(session.id, b));
    trace.push_back(std::move(request));
    session.blocks += 1 + random() % 3;
    if (session.blocks > kContextBlocks) open.erase(open.begin() + chosen);
  }
  return trace;
}

// A working set that is used again and again, and documents that are read once, in long runs.
Trace documents(uint32_t seed, size_t requests) {
  std::mt19937 random(seed);
  Trace trace;
  for (size_t i = 0; i < requests; ++i) {
    const bool again = random() % 100 < 40;
    const uint64_t id = again ? random() % 60 : 1000 + i;
    std::vector<uint64_t> request;
    for (uint64_t b = 0; b < (again ? 8u : 20u); ++b) request.push_back(block(id, b));
    trace.push_back(std::move(request));
  }
  return trace;
}

// The share of blocks in the longest prefix that the cache holds; tails are used before heads.
double hit_rate(const Trace& trace, EvictionPolicy& policy, uint32_t capacity) {
  KeyCache cache(policy, capacity);
  size_t hits = 0;
  size_t blocks = 0;
  for (const auto& request : trace) {
    size_t prefix = 0;
    while (prefix < request.size() && cache.holds(request[prefix])) ++prefix;
    for (size_t i = prefix; i-- > 0;) cache.use(request[i]);
    for (size_t i = request.size(); i-- > prefix;) cache.use(request[i]);
    hits += prefix;
    blocks += request.size();
  }
  return static_cast<double>(hits) / static_cast<double>(blocks);
}

size_t unique_blocks(const Trace& trace) {
  std::set<uint64_t> keys;
  for (const auto& request : trace) keys.insert(request.begin(), request.end());
  return keys.size();
}

TEST(Auto, IsNeverHalfAPointWorseThanLru) {
  const std::pair<const char*, Trace> traces[] = {
      {"few conversations", conversations(1, 4000, 20, 97)},
      {"many conversations", conversations(2, 4000, 150, 97)},
      {"short conversations", conversations(3, 4000, 40, 60)},
      {"documents", documents(4, 4000)},
  };
  for (const auto& [name, trace] : traces) {
    const auto unique = static_cast<double>(unique_blocks(trace));
    for (const double share : {0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7}) {
      const auto capacity = static_cast<uint32_t>(unique * share);
      Placed<LruPolicy> lru(capacity);
      Placed<AutoPolicy> chosen(capacity);
      EXPECT_GE(hit_rate(trace, *chosen, capacity), hit_rate(trace, *lru, capacity) - 0.005)
          << name << ", " << capacity << " blocks";
    }
  }
}

TEST(Auto, LeavesLruWhereLongReadsWouldFlushIt) {
  constexpr uint32_t kSlots = 600;
  const Trace trace = documents(5, 4000);
  Placed<LruPolicy> lru(kSlots);
  Placed<AutoPolicy> chosen(kSlots);
  EXPECT_GT(hit_rate(trace, *chosen, kSlots), hit_rate(trace, *lru, kSlots) + 0.05);
  EXPECT_NE(chosen->leader(), "lru");
}

TEST(Auto, ReturnsToLruWhenTheLoadChangesAndLosesNoSlot) {
  constexpr uint32_t kSlots = 600;
  Placed<AutoPolicy> chosen(kSlots);
  // Each load begins with an empty cache and what was learned from the one before.
  for (const bool reads : {true, false, true}) {
    hit_rate(reads ? documents(6, 3000) : conversations(7, 3000, 40, 60), *chosen, kSlots);
    EXPECT_EQ(chosen->leader() != "lru", reads) << chosen->leader();
    std::set<uint32_t> left;
    while (const auto slot = chosen->evict([](uint32_t) { return true; })) {
      EXPECT_TRUE(left.insert(*slot).second);
    }
    EXPECT_EQ(left.size(), kSlots);
  }
}

TEST(Auto, FollowsAChangeOfTheLoad) {
  constexpr uint32_t kSlots = 600;
  const Trace before = documents(6, 3000);
  const Trace after = conversations(7, 6000, 40, 60);
  Trace both = before;
  both.insert(both.end(), after.begin(), after.end());
  Placed<LruPolicy> lru(kSlots);
  Placed<AutoPolicy> chosen(kSlots);
  EXPECT_GE(hit_rate(both, *chosen, kSlots), hit_rate(both, *lru, kSlots));
}

TEST(Auto, NoCallPaysForAChangeOfTheLeader) {
  // A use, a victim, and what they bring from one order to the other.
  constexpr uint64_t kMostMoves = 20;
  constexpr uint32_t kSlots = 5000;
  Placed<AutoPolicy> chosen(kSlots);
  std::unordered_map<uint64_t, uint32_t> slots;
  std::vector<uint64_t> keys(kSlots);
  uint64_t most = 0;
  int changes = 0;
  const auto counted = [&](const auto& call) {
    const uint64_t before = chosen->moves();
    const auto leader = chosen->leader();
    call();
    most = std::max(most, chosen->moves() - before);
    changes += chosen->leader() != leader;
  };
  const auto use = [&](uint64_t key) {
    if (const auto found = slots.find(key); found != slots.end()) {
      counted([&] { chosen->touch(found->second); });
      return;
    }
    auto slot = static_cast<uint32_t>(slots.size());
    if (slot == kSlots) {
      counted([&] { slot = chosen->evict([](uint32_t) { return true; }).value(); });
      slots.erase(keys[slot]);
    }
    keys[slot] = key;
    slots[key] = slot;
    counted([&] { chosen->insert(slot, key); });
  };
  for (const bool reads : {true, false, true}) {
    const Trace trace = reads ? documents(6, 12000) : conversations(7, 12000, 330, 60);
    for (const auto& request : trace) {
      for (size_t i = request.size(); i-- > 0;) use(request[i]);
    }
  }
  EXPECT_GE(changes, 2) << "the loads did not change the leader";
  EXPECT_LE(most, kMostMoves);
}

TEST(Lru2, ANewOrderBecomesThatOfAPolicyWhichAlwaysHadIt) {
  constexpr uint32_t kSlots = 4000;
  Placed<Lru2Policy> always(kSlots);
  Placed<Lru2Policy> changed(kSlots);
  changed->follow(Lru2Policy::Order::last_use);
  Lru2Policy* const both[] = {&*always, &*changed};
  std::mt19937 random(10);
  const auto use = [&](uint32_t slot) {
    for (Lru2Policy* policy : both) policy->touch(slot);
  };
  for (uint32_t slot = 0; slot < kSlots; ++slot) {
    for (Lru2Policy* policy : both) policy->insert(slot, slot);
  }
  for (uint32_t i = 0; i < kSlots; ++i) use(random() % kSlots);
  changed->follow(Lru2Policy::Order::two_uses);
  for (uint32_t i = 0; i < kSlots; ++i) use(random() % (kSlots / 8));
  std::set<uint32_t> left[2];
  for (uint32_t i = 1; i <= kSlots / 2; ++i) {
    for (int each : {0, 1}) {
      left[each].insert(both[each]->evict([](uint32_t) { return true; }).value());
    }
    if (i % 500 != 0) continue;
    std::vector<uint32_t> same;
    std::set_intersection(left[0].begin(), left[0].end(), left[1].begin(), left[1].end(),
                          std::back_inserter(same));
    EXPECT_GE(same.size(), i * 9 / 10) << "of " << i << " victims";
  }
}

TEST(ShadowCache, HitsWhatARealCacheOfItsSizeWouldHit) {
  constexpr uint32_t kSlots = 50;
  Placed<LruPolicy> lru(kSlots);
  KeyCache real(*lru, kSlots);
  Placed<LruPolicy> policy(kSlots);
  Placed<ShadowCache> shadow(kSlots, *policy);
  std::mt19937 random(8);
  for (int i = 0; i < 5000; ++i) {
    const uint32_t key = std::min(random() % 200, random() % 200);
    ASSERT_EQ(shadow->holds(key), real.holds(key));
    ASSERT_EQ(shadow->use(key), real.holds(key));
    real.use(key);
  }
}

TEST(ShadowCache, ShrinksAndForgets) {
  Placed<LruPolicy> policy(4);
  Placed<ShadowCache> shadow(4, *policy);
  for (uint32_t key = 0; key < 4; ++key) EXPECT_FALSE(shadow->use(key));
  shadow->forget(2);
  shadow->forget(77);
  EXPECT_FALSE(shadow->use(2));
  shadow->resize(2);
  EXPECT_FALSE(shadow->use(9));  // 2 and 9 are left
  EXPECT_TRUE(shadow->use(2));
  EXPECT_FALSE(shadow->use(3));
  shadow->resize(1000);
  for (const uint32_t key : {20, 21, 22, 23}) EXPECT_FALSE(shadow->use(key));
  EXPECT_TRUE(shadow->use(20));
  EXPECT_FALSE(shadow->use(3));
}

}  // namespace
}  // namespace ucm::base
