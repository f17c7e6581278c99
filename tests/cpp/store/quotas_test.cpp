// SPDX-License-Identifier: Apache-2.0
#include "store/quotas.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

namespace ucm {
namespace {

using Entries = std::vector<std::string>;

QuotaRoom::Clock::time_point soon() {
  return QuotaRoom::Clock::now() + std::chrono::milliseconds(20);
}

TEST(QuotasTest, SharesAndBytesDivideTheCapacityAndTheRestIsLeft) {
  const auto quotas = Quotas::make(Entries{"a=40%", "model.b-1=250", "c=12.5%"}, 1000);
  ASSERT_TRUE(quotas.ok()) << quotas.status().to_string();
  const Quotas& q = quotas.value();
  ASSERT_EQ(q.shares(), 4u);
  EXPECT_EQ(q.bytes(q.share_of("a")), 400u);
  EXPECT_EQ(q.bytes(q.share_of("model.b-1")), 250u);
  EXPECT_EQ(q.bytes(q.share_of("c")), 125u);
  EXPECT_EQ(q.share_of("unknown"), q.share_of(""));
  EXPECT_EQ(q.bytes(q.share_of("")), 225u);
  EXPECT_EQ(q.name(q.share_of("")), "(rest)");
}

TEST(QuotasTest, WithoutACapacityTheRestHasNoLimit) {
  const Quotas none = Quotas::make(Entries{}, 0).value();
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.bytes(none.share_of("x")), Quotas::kNoLimit);
  const Quotas some = Quotas::make(Entries{"a=100"}, 0).value();
  EXPECT_EQ(some.bytes(some.share_of("a")), 100u);
  EXPECT_EQ(some.bytes(some.share_of("")), Quotas::kNoLimit);
}

TEST(QuotasTest, EveryMistakeIsNamed) {
  const struct {
    Entries entries;
    uint64_t capacity;
    const char* text;
  } cases[] = {
      {{"a=60%", "b=50%"}, 1000, "more than the capacity of 1000 bytes; b"},
      {{"a=60%", "b=401"}, 1000, "more than the capacity"},
      {{"a=40%"}, 0, "needs capacity_bytes"},
      {{"a=40%", "a=10%"}, 1000, "a is named twice"},
      {{"a"}, 1000, "expected name=40%"},
      {{"a="}, 1000, "'' is neither"},
      {{"a=20XiB"}, 1000, "'20XiB' is neither"},
      {{"a=-1"}, 1000, "'-1' is neither"},
      {{"a=0"}, 1000, "'0' is neither"},
      {{"a=0%"}, 1000, "'0%' is not a share"},
      {{"a=101%"}, 1000, "'101%' is not a share"},
      {{"a=nan%"}, 1000, "'nan%' is not a share"},
      {{"a/b=1"}, 1000, "namespace 'a/b'"},
      {{"..=1"}, 1000, "namespace '..'"},
      {{"=1"}, 1000, "namespace ''"},
      {{std::string(65, 'x') + "=1"}, 1000, "1 to 64 letters"},
  };
  for (const auto& each : cases) {
    const auto quotas = Quotas::make(each.entries, each.capacity);
    ASSERT_EQ(quotas.status().code(), Code::invalid_argument) << each.text;
    EXPECT_NE(quotas.status().message().find(each.text), std::string::npos)
        << quotas.status().message();
  }
}

TEST(QuotaRoomTest, NothingIsTakenBeforeTheFirstCount) {
  QuotaRoom room(100);
  EXPECT_FALSE(room.take(1, soon()));
  std::thread counter([&] {
    room.begin_count();
    room.end_count(60);
  });
  EXPECT_TRUE(room.take(40, QuotaRoom::Clock::now() + std::chrono::seconds(20)));
  counter.join();
  EXPECT_FALSE(room.take(1, soon()));
  room.settle(40, false);
  EXPECT_TRUE(room.take(40, soon()));
}

// The disk of a model: what is on it, what is being written, and a count that sees each block at
// some moment between its begin and its end.
TEST(QuotaRoomTest, WhatIsThereAndWhatIsUnderWayNeverExceedTheLimit) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 200; ++round) {
    const uint64_t limit = 50 + random() % 200;
    QuotaRoom room(limit);
    uint64_t there = random() % (limit + 1);
    std::vector<uint64_t> under_way;
    bool counting = false;
    uint64_t at_begin = 0;   // of what was there then, what is still there
    uint64_t meanwhile = 0;  // came during the count
    room.begin_count();
    room.end_count(there);
    for (int step = 0; step < 400; ++step) {
      const uint64_t bytes = 1 + random() % 20;
      switch (random() % 5) {
        case 0:
        case 1:
          if (room.take(bytes, {})) under_way.push_back(bytes);
          break;
        case 2:
          if (!under_way.empty()) {
            const bool kept = random() % 4 != 0;
            room.settle(under_way.back(), kept);
            if (kept) (counting ? meanwhile : there) += under_way.back();
            under_way.pop_back();
          }
          break;
        case 3: {  // something leaves
          uint64_t& place = counting ? at_begin : there;
          place -= std::min(place, bytes);
          break;
        }
        default:
          if (!counting) {
            room.begin_count();
            at_begin = there;
            meanwhile = 0;
          } else {
            // Of what came meanwhile the count has seen a part.
            room.end_count(at_begin + (meanwhile > 0 ? random() % (meanwhile + 1) : 0));
            there = at_begin + meanwhile;
          }
          counting = !counting;
      }
      uint64_t all = counting ? at_begin + meanwhile : there;
      for (const uint64_t each : under_way) all += each;
      ASSERT_LE(all, limit) << "round " << round << ", step " << step;
    }
  }
}

TEST(QuotaRoomTest, ARoomThatWasCountedLaterHasWhatLeftAgain) {
  QuotaRoom room(100);
  room.begin_count();
  room.end_count(100);
  EXPECT_FALSE(room.take(10, soon()));
  room.begin_count();
  room.end_count(20);
  {
    QuotaClaim kept(&room, 50, soon());
    EXPECT_TRUE(kept.granted());
    kept.keep();
    const QuotaClaim too_much(&room, 31, soon());
    EXPECT_FALSE(too_much.granted());
    const QuotaClaim dropped(&room, 30, soon());
    EXPECT_TRUE(dropped.granted());
  }
  EXPECT_TRUE(room.take(30, soon()));
  EXPECT_FALSE(room.take(1, soon()));
}

TEST(QuotaRoomTest, PatienceWithTheFirstCountEnds) {
  QuotaRoom room(100, std::chrono::milliseconds(10));
  EXPECT_FALSE(room.take(1, QuotaRoom::Clock::now() + std::chrono::hours(1)));
  room.begin_count();
  room.end_count(0);
  EXPECT_TRUE(room.take(1, {}));
}

TEST(QuotaRoomTest, ClosingEndsTheWaitForACount) {
  QuotaRoom room(100);
  std::thread closer([&] { room.close(); });
  EXPECT_FALSE(room.take(1, QuotaRoom::Clock::now() + std::chrono::hours(1)));
  closer.join();
}

}  // namespace
}  // namespace ucm
