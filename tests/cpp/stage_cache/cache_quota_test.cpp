// SPDX-License-Identifier: Apache-2.0
// Namespaces and quotas of a Cache that processes share.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "cache_fixture.h"
#include "processes.h"

namespace ucm::test {
namespace {

constexpr int64_t kSlots = 40;

class SharedQuotaTest : public ::testing::Test {
 protected:
  Options options(const std::string& name, int64_t slots = kSlots) const {
    Options options = cache_options(slots);
    options["share"] = true;
    options["unique_id"] = pool_;
    if (!name.empty()) options["namespace"] = name;
    if (!quotas_.empty()) options["quotas"] = quotas_;
    return options;
  }
  std::unique_ptr<CacheOverMemory> cache(const std::string& name, int64_t slots = kSlots) const {
    return std::make_unique<CacheOverMemory>(options(name, slots), layout_, /*with_next=*/false);
  }
  Status refused(const std::string& name) const {
    const Options refused_options = options(name);
    StageContext context;
    context.options = &refused_options;
    context.layout = layout_;
    context.metrics = std::make_shared<base::MetricRegistry>();
    context.device = open_device("cpu", 0).value();
    return find_stage("Cache")->make(std::move(context)).status();
  }

  const BlockLayout layout_ = BlockLayout::make({1000, 3000}, 3, 5).value();
  const std::string pool_ = "quota-" + std::to_string(::getpid());
  std::vector<std::string> quotas_;
};

TEST_F(SharedQuotaTest, BlocksOfNamespacesInOnePoolNeverMeet) {
  const auto keys = make_keys(0, 4);
  CacheOverMemory a(options("a"), layout_);
  CacheOverMemory b(options("b"), layout_);
  CacheOverMemory nobody(options(""), layout_);
  ASSERT_TRUE(dump_blocks(a.store(), keys).ok());
  EXPECT_EQ(count_present(b.store(), keys), 0u);
  EXPECT_EQ(count_present(nobody.store(), keys), 0u);
  ASSERT_TRUE(dump_blocks(b.store(), keys).ok());
  EXPECT_EQ(b.below().size(), 4u) << "what a has written down is not there for b";
  EXPECT_EQ(b.metric("ucm_blocks"), 8) << "of one pool";
  ASSERT_TRUE(a.store().remove(keys).ok());
  EXPECT_EQ(count_present(a.store(), keys), 0u);
  EXPECT_EQ(load_blocks(b.store(), keys).value(), 0u);
}

TEST_F(SharedQuotaTest, AQuotaIsALimitAndAPromiseForAllProcessesTogether) {
  quotas_ = {"a=25%", "b=50%"};
  const auto keys = make_keys(0, 100);
  Step open;
  std::vector<Child> members;
  for (uint64_t i = 0; i < 2; ++i) {
    members.emplace_back([&] {
      open.await(1);
      const auto theirs = cache("a");
      return dump_blocks(theirs->store(), make_keys(i * 50, 50)).ok() ? 0 : 1;
    });
  }
  const auto a = cache("a");
  const auto b = cache("b");
  const auto c = cache("c");
  const auto nobody = cache("");
  ASSERT_TRUE(dump_blocks(b->store(), make_keys(0, 20)).ok());
  open.set(1);
  for (Child& member : members) EXPECT_EQ(member.wait(), 0);
  EXPECT_EQ(count_present(a->store(), keys), 10u);
  ASSERT_TRUE(dump_blocks(c->store(), keys).ok());
  ASSERT_TRUE(dump_blocks(nobody->store(), make_keys(0, 3)).ok());
  EXPECT_EQ(count_present(c->store(), keys) + count_present(nobody->store(), keys), 10u);
  EXPECT_EQ(count_present(nobody->store(), keys), 3u);
  EXPECT_EQ(count_present(b->store(), keys), 20u) << "nobody else makes room among them";
  EXPECT_EQ(load_blocks(b->store(), make_keys(0, 20)).value(), 0u);
}

TEST_F(SharedQuotaTest, AStoreForLookupsSeesItsOwnNamespace) {
  for (const bool with_quotas : {false, true}) {
    if (with_quotas) quotas_ = {"a=25%"};
    const auto keys = make_keys(0, 3);
    const Options of_a = options("a");
    const Options of_b = options("b");
    CacheOverMemory scheduler(of_a, BlockLayout(), false);
    CacheOverMemory other(of_b, BlockLayout(), false);
    const auto worker = cache("a");
    ASSERT_TRUE(dump_blocks(worker->store(), keys).ok());
    EXPECT_EQ(scheduler.store().lookup_prefix(keys).value(), 3u);
    EXPECT_EQ(other.store().lookup_prefix(keys).value(), 0u);
    std::vector<uint8_t> pinned(3);
    ASSERT_TRUE(scheduler.store().pin(keys, pinned).ok());
    EXPECT_EQ(pinned, (std::vector<uint8_t>{1, 1, 1}));
    ASSERT_TRUE(scheduler.store().remove(make_keys(1, 1)).ok());
    EXPECT_EQ(count_present(worker->store(), keys), 2u);
  }
}

TEST_F(SharedQuotaTest, QuotasThatCanNotHoldAreAnsweredAtOnce) {
  quotas_ = {"a=100%"};
  EXPECT_NE(refused("b").message().find("nothing is left for the rest"), std::string::npos);
  quotas_ = {"a=1%"};
  EXPECT_NE(refused("a").message().find("less than one block"), std::string::npos);
  quotas_ = {"a=500000000000"};
  EXPECT_NE(refused("a").message().find("cache.quotas"), std::string::npos);
  quotas_ = {"a=40%"};
  EXPECT_TRUE(refused("a").ok());
}

// Works in its namespace until it is killed.
int crowd(CacheOverMemory* cache, uint64_t seed) {
  std::mt19937_64 random(seed);
  while (true) {
    const auto keys = make_keys(random() % 60, 1 + random() % 4);
    if (random() % 4 != 0) {
      (void)dump_blocks(cache->store(), keys);
    } else {
      const auto wrong = load_blocks(cache->store(), {keys[0]});
      if (wrong.ok() && wrong.value() != 0) return 1;
    }
  }
}

TEST_F(SharedQuotaTest, Kill9InOneNamespaceLeavesTheLimitAndTheBlocksOfTheOthers) {
  constexpr int64_t kMany = 16384;  // those of killed writers rest for a minute
  quotas_ = {"a=50%", "b=" + std::to_string(20 * layout_.slot_bytes())};
  const auto keys = make_keys(0, 64);
  Step kept;
  Child keeper([&] {
    const auto ours = cache("a", kMany);
    const auto theirs = cache("b", kMany);
    if (!dump_blocks(theirs->store(), make_keys(0, 20)).ok()) return 1;
    kept.set(1);
    kept.await(2);
    return load_blocks(theirs->store(), make_keys(0, 20)).value() == 0 ? 0 : 2;
  });
  kept.await(1);
  std::mt19937_64 random(29);
  for (int round = 0; round < kills(10); ++round) {
    Step ready;
    std::vector<Child> members;
    for (uint64_t i = 0; i < 2; ++i) {
      members.emplace_back([&] {
        const auto ours = cache("a", kMany);
        ready.add();
        return crowd(ours.get(), static_cast<uint64_t>(round) * 2 + i);
      });
    }
    ready.await(2);
    for (Child& member : members) {
      std::this_thread::sleep_for(std::chrono::microseconds(random() % 6000));
      ASSERT_TRUE(member.kill()) << "round " << round << ": a wrong byte before the kill";
    }
    Child checker([&] {
      const auto ours = cache("a", kMany);
      const auto theirs = cache("b", kMany);
      if (count_present(theirs->store(), keys) != 20) return 1;
      if (theirs->metric("ucm_capacity_bytes") != 20.0 * static_cast<double>(layout_.slot_bytes()))
        return 2;
      if (!dump_blocks(ours->store(), keys).ok()) return 3;
      const auto wrong = load_blocks(ours->store(), keys);
      return wrong.ok() && wrong.value() == 0 ? 0 : 4;
    });
    ASSERT_EQ(checker.wait(), 0) << "round " << round;
  }
  kept.set(2);
  EXPECT_EQ(keeper.wait(), 0);
}

}  // namespace
}  // namespace ucm::test
