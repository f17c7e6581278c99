// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>
#include <set>

#include "base/eviction_arc.h"
#include "base/eviction_lru2.h"
#include "base/eviction_s3fifo.h"
#include "eviction_keys.h"

namespace ucm::base {
namespace {

// The algorithms as their papers describe them, over keys, as slow as it gets.
using Queue = std::deque<uint64_t>;  // oldest first

bool holds(const Queue& queue, uint64_t key) {
  return std::find(queue.begin(), queue.end(), key) != queue.end();
}

void drop(Queue& queue, uint64_t key) { std::erase(queue, key); }

uint64_t pop(Queue& queue) {
  const uint64_t key = queue.front();
  queue.pop_front();
  return key;
}

// As in the paper, except that the victim is chosen before the returning key moves the target.
struct TextbookArc {
  explicit TextbookArc(size_t slots) : c(slots) {}
  size_t c;
  size_t p = 0;
  Queue t1, t2, b1, b2;

  std::optional<uint64_t> use(uint64_t key) {
    if (holds(t1, key) || holds(t2, key)) {
      drop(t1, key);
      drop(t2, key);
      t2.push_back(key);
      return std::nullopt;
    }
    std::optional<uint64_t> left;
    if (t1.size() + t2.size() == c) {
      const bool once = t1.size() > p || t2.empty();
      left = pop(once ? t1 : t2);
      (once ? b1 : b2).push_back(*left);
      trim();
    }
    if (holds(b1, key)) {
      p = std::min(c, p + std::max<size_t>(1, b2.size() / b1.size()));
      drop(b1, key);
      t2.push_back(key);
    } else if (holds(b2, key)) {
      p -= std::min(p, std::max<size_t>(1, b1.size() / b2.size()));
      drop(b2, key);
      t2.push_back(key);
    } else {
      t1.push_back(key);
    }
    trim();
    return left;
  }
  void trim() {
    while (!b1.empty() && t1.size() + b1.size() > c) b1.pop_front();
    while (!b2.empty() && t1.size() + t2.size() + b1.size() + b2.size() > 2 * c) b2.pop_front();
  }
};

struct TextbookS3Fifo {
  explicit TextbookS3Fifo(size_t slots) : c(slots), s(std::max<size_t>(1, slots / 10)) {}
  size_t c, s;
  Queue small, main, ghost;
  std::map<uint64_t, int> uses;

  std::optional<uint64_t> use(uint64_t key) {
    if (holds(small, key) || holds(main, key)) {
      uses[key] = std::min(3, uses[key] + 1);
      return std::nullopt;
    }
    std::optional<uint64_t> left;
    while (!left && small.size() + main.size() == c)
      left = small.size() >= s ? evict_s() : evict_m();
    uses[key] = 0;
    const bool returns = holds(ghost, key);
    drop(ghost, key);
    (returns ? main : small).push_back(key);
    return left;
  }
  std::optional<uint64_t> evict_s() {
    while (!small.empty()) {
      const uint64_t key = pop(small);
      if (uses[key] == 0) {
        ghost.push_back(key);
        if (ghost.size() > c - s) ghost.pop_front();
        return key;
      }
      uses[key] = 0;
      main.push_back(key);
    }
    return evict_m();
  }
  std::optional<uint64_t> evict_m() {
    while (!main.empty()) {
      const uint64_t key = pop(main);
      if (uses[key] == 0) return key;
      --uses[key];
      main.push_back(key);
    }
    return evict_s();
  }
};

struct TextbookLru2 {
  explicit TextbookLru2(size_t slots) : c(slots) {}
  size_t c;
  uint64_t now = 0;
  struct Times {
    uint64_t last = 0;
    uint64_t earlier = 0;  // 0: never
  };
  std::map<uint64_t, Times> held;
  std::map<uint64_t, uint64_t> past;  // key that left -> its last use

  std::optional<uint64_t> use(uint64_t key) {
    if (const auto found = held.find(key); found != held.end()) {
      ++now;
      if (now - found->second.last > c / 64) found->second.earlier = found->second.last;
      found->second.last = now;
      return std::nullopt;
    }
    std::optional<uint64_t> left;
    if (held.size() == c) left = evict();
    held[key] = {++now, past.contains(key) ? past[key] : 0};
    past.erase(key);
    return left;
  }
  uint64_t evict() {
    // (used more than once, the use that counts): what is smallest leaves.
    const auto rank = [this](const auto& each) {
      const Times& times = each.second;
      if (times.earlier > 0) return std::tuple(1, times.earlier);
      return std::tuple(now - times.last > c / 64 ? 0 : 2, times.last);
    };
    const auto victim = std::min_element(held.begin(), held.end(),
                                         [&](auto& a, auto& b) { return rank(a) < rank(b); });
    const auto [key, times] = *victim;
    held.erase(key);
    past[key] = times.last;
    // Those whose last use was longest ago are forgotten.
    if (past.size() > 17 * c / 10 + 1) {
      past.erase(std::min_element(past.begin(), past.end(),
                                  [](auto& a, auto& b) { return a.second < b.second; }));
    }
    return key;
  }
};

// Loops, repeats and popular keys in turn, so that every branch of an algorithm is taken.
uint64_t next_key(std::mt19937& random, uint32_t capacity, int step) {
  const int phase = step / 700 % 3;
  if (phase == 0) return step % (capacity + capacity / 2);
  const uint32_t range = phase == 1 ? capacity / 2 + 1 : 4 * capacity;
  return std::min(random() % range, random() % range);
}

// As long as a policy tells all ghosts and all times apart.
template <typename Textbook, typename Policy>
void agree_on_every_victim() {
  constexpr int kUses = 1000;
  for (const uint32_t capacity : {1u, 2u, 5u, 8u, 15u}) {
    int victims = 0;
    for (int start = 0; start < 8 * kUses; start += kUses) {
      Textbook textbook(capacity);
      Placed<Policy> policy(capacity);
      KeyCache cache(*policy, capacity);
      std::mt19937 random(capacity + start);
      for (int step = start; step < start + kUses; ++step) {
        const uint64_t key = next_key(random, capacity, step);
        const auto expected = textbook.use(key);
        ASSERT_EQ(cache.use(key), expected) << "step " << step << " of capacity " << capacity;
        victims += expected.has_value();
      }
    }
    EXPECT_GT(victims, 1000);
  }
}

// Beyond that, it hits as much.
template <typename Textbook, typename Policy>
void agree_on_the_hit_rate() {
  constexpr int kSteps = 30000;
  for (const uint32_t capacity : {30u, 150u, 700u}) {
    Textbook textbook(capacity);
    Placed<Policy> policy(capacity);
    KeyCache cache(*policy, capacity);
    std::mt19937 random(capacity);
    std::set<uint64_t> held;
    int expected = 0;
    int hits = 0;
    for (int step = 0; step < kSteps; ++step) {
      const uint64_t key = next_key(random, capacity, step);
      expected += held.contains(key);
      hits += cache.holds(key);
      if (const auto left = textbook.use(key)) held.erase(*left);
      held.insert(key);
      cache.use(key);
    }
    EXPECT_NEAR(hits, expected, kSteps / 50) << capacity << " slots";
  }
}

TEST(Arc, EvictsWhatTheTextbookEvicts) { agree_on_every_victim<TextbookArc, ArcPolicy>(); }

TEST(Arc, HitsWhatTheTextbookHits) { agree_on_the_hit_rate<TextbookArc, ArcPolicy>(); }

TEST(S3Fifo, EvictsWhatTheTextbookEvicts) { agree_on_every_victim<TextbookS3Fifo, S3FifoPolicy>(); }

TEST(S3Fifo, HitsWhatTheTextbookHits) { agree_on_the_hit_rate<TextbookS3Fifo, S3FifoPolicy>(); }

TEST(Lru2, EvictsWhatTheTextbookEvicts) { agree_on_every_victim<TextbookLru2, Lru2Policy>(); }

TEST(Lru2, HitsWhatTheTextbookHits) { agree_on_the_hit_rate<TextbookLru2, Lru2Policy>(); }

TEST(Lru2, CountsUsesInQuickSuccessionAsOne) {
  constexpr uint32_t kSlots = 640;  // ten uses in between make two
  Placed<Lru2Policy> placed(kSlots);
  Lru2Policy& policy = *placed;
  policy.insert(0, 1000);
  policy.touch(0);
  policy.touch(0);
  policy.insert(1, 1001);
  for (uint32_t slot = 2; slot < 20; ++slot) policy.insert(slot, slot);
  policy.touch(1);
  for (uint32_t slot = 20; slot < 40; ++slot) policy.insert(slot, slot);
  std::vector<uint32_t> order;
  while (const auto slot = policy.evict([](uint32_t) { return true; })) order.push_back(*slot);
  EXPECT_EQ(order.front(), 0u);
  // The newest are spared as long as anything else can leave, which slot 1 can.
  EXPECT_GT(std::find(order.begin(), order.end(), 1u), std::find(order.begin(), order.end(), 28u));
  EXPECT_LT(std::find(order.begin(), order.end(), 1u), std::find(order.begin(), order.end(), 39u));
}

}  // namespace
}  // namespace ucm::base
