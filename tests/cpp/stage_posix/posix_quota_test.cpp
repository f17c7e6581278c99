// SPDX-License-Identifier: Apache-2.0
#include <random>
#include <set>

#include "posix_fixture.h"

namespace ucm::test {
namespace {

constexpr uint64_t kQuotaFile = 5 * 4096;
constexpr uint64_t kQuotaCapacity = 100 * kQuotaFile;

class PosixQuotaTest : public PosixTest {
 protected:
  void SetUp() override {
    PosixTest::SetUp();
    options_["capacity_bytes"] = static_cast<int64_t>(kQuotaCapacity);
    options_["quotas"] = std::vector<std::string>{"a=30%", "b=" + std::to_string(20 * kQuotaFile)};
  }

  StorePtr open_as(const std::string& name) {
    if (name.empty()) {
      options_.erase("namespace");
    } else {
      options_["namespace"] = name;
    }
    return open();
  }
  std::string folder(const std::string& name) const {
    return posix::namespace_folder(root(), name);
  }
  // Bytes of the block files of a namespace, finished or being written.
  uint64_t used(const std::string& name) const {
    uint64_t bytes = 0;
    std::error_code error;
    for (const auto& outer : std::filesystem::directory_iterator(folder(name), error)) {
      if (!outer.is_directory() || outer.path().filename().string().size() != 2) continue;
      for (const auto& entry : std::filesystem::directory_iterator(outer.path(), error)) {
        const auto size = std::filesystem::file_size(entry.path(), error);
        if (!error) bytes += size;
      }
    }
    return bytes;
  }
  double of_namespace(const std::string& name, const std::string& space) const {
    return metric(name, "namespace", space);
  }
};

TEST_F(PosixQuotaTest, ANamespaceStaysWithinItsQuotaAndTheOthersKeepTheirBlocks) {
  const StorePtr b = open_as("b");
  const StorePtr nobody = open_as("");
  const auto of_b = make_keys(0, 10);
  const auto of_nobody = make_keys(100, 30);
  ASSERT_TRUE(dump_blocks(*b, of_b).ok());
  ASSERT_TRUE(dump_blocks(*nobody, of_nobody).ok());
  const StorePtr a = open_as("a");
  std::vector<BlockKey> last;
  for (uint64_t i = 0; i < 40; ++i) {
    last = make_keys(1000 + i * 10, 10);
    ASSERT_TRUE(dump_blocks(*a, last).ok());
    ASSERT_LE(used("a"), 30 * kQuotaFile) << i;
  }
  EXPECT_GE(used("a"), 10 * kQuotaFile);
  EXPECT_EQ(count_present(*b, of_b), of_b.size());
  EXPECT_EQ(count_present(*nobody, of_nobody), of_nobody.size());
  EXPECT_EQ(load_blocks(*b, of_b).value(), 0u);
  // What is refused now fits after a collection.
  const BlockKey late = make_key(5000);
  EXPECT_TRUE(
      eventually([&] { return dump_blocks(*a, {late}).ok() && count_present(*a, {late}) == 1; }));
}

TEST_F(PosixQuotaTest, NamespacesDoNotSeeEachOthersBlocks) {
  const StorePtr a = open_as("a");
  const StorePtr b = open_as("b");
  const StorePtr nobody = open_as("");
  const auto keys = make_keys(0, 5);
  ASSERT_TRUE(dump_blocks(*a, keys).ok());
  EXPECT_EQ(count_present(*a, keys), 5u);
  EXPECT_EQ(count_present(*b, keys), 0u);
  EXPECT_EQ(count_present(*nobody, keys), 0u);
  ASSERT_TRUE(dump_blocks(*b, keys).ok());
  ASSERT_TRUE(b->remove(keys).ok());
  EXPECT_EQ(load_blocks(*a, keys).value(), 0u);
  EXPECT_EQ(mode_of(folder("a")), 0700u);
}

TEST_F(PosixQuotaTest, NamespacesWithoutAQuotaShareTheRest) {
  const StorePtr b = open_as("b");
  const auto of_b = make_keys(0, 10);
  ASSERT_TRUE(dump_blocks(*b, of_b).ok());
  const StorePtr x = open_as("x");
  const StorePtr y = open_as("y");
  for (uint64_t i = 0; i < 30; ++i) {
    ASSERT_TRUE(dump_blocks(*x, make_keys(1000 + i * 10, 10)).ok());
    ASSERT_TRUE(dump_blocks(*y, make_keys(9000 + i * 10, 10)).ok());
  }
  // Each of them may be ahead of the other one's last count.
  EXPECT_TRUE(eventually([&] {
    (void)dump_blocks(*x, {make_key(77)});
    return used("x") + used("y") <= 50 * kQuotaFile;
  }));
  EXPECT_EQ(count_present(*b, of_b), of_b.size());
}

TEST_F(PosixQuotaTest, AQuotaThatWasLoweredHoldsFromTheFirstWriteOn) {
  {
    const StorePtr a = open_as("a");
    ASSERT_TRUE(dump_blocks(*a, make_keys(0, 25)).ok());
  }
  options_["quotas"] = std::vector<std::string>{"a=10%"};
  const StorePtr a = open_as("a");
  const uint64_t before = used("a");
  ASSERT_TRUE(dump_blocks(*a, make_keys(100, 10)).ok());
  EXPECT_LE(used("a"), std::max(before, 10 * kQuotaFile));
  EXPECT_TRUE(eventually([&] { return used("a") <= 10 * kQuotaFile; }));
}

TEST_F(PosixQuotaTest, MetricsTellTheNamespacesApart) {
  const StorePtr b = open_as("b");
  ASSERT_TRUE(dump_blocks(*b, make_keys(0, 7)).ok());
  const StorePtr a = open_as("a");
  ASSERT_TRUE(eventually([&] { return of_namespace("ucm_namespace_blocks", "b") == 7; }));
  EXPECT_EQ(of_namespace("ucm_namespace_used_bytes", "b"), static_cast<double>(7 * kQuotaFile));
  EXPECT_EQ(of_namespace("ucm_namespace_quota_bytes", "a"), static_cast<double>(30 * kQuotaFile));
  EXPECT_EQ(of_namespace("ucm_namespace_quota_bytes", "(rest)"),
            static_cast<double>(50 * kQuotaFile));
  for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(dump_blocks(*a, make_keys(100 + i * 10, 10)).ok());
  EXPECT_GT(metric("ucm_refused_blocks_total"), 0);
  EXPECT_TRUE(
      eventually([&] { return of_namespace("ucm_namespace_evicted_blocks_total", "a") > 0; }));
  EXPECT_EQ(of_namespace("ucm_namespace_evicted_blocks_total", "b"), 0);
}

TEST_F(PosixQuotaTest, MistakesAreRefusedAtOpening) {
  const struct {
    std::vector<std::string> quotas;
    const char* own;
    const char* text;
  } cases[] = {{{"a=60%", "b=41%"}, "a", "more than the capacity"},
               {{"a=1GiB"}, "a", "neither a share"},
               {{"a=100%"}, "b", "nothing is left for the rest"},
               {{"a=4096"}, "a", "less than one block"},
               {{"a=10%"}, "a/b", "namespace 'a/b'"}};
  for (const auto& each : cases) {
    options_["quotas"] = each.quotas;
    options_["namespace"] = std::string(each.own);
    const auto store = try_open(options_, flat_layout());
    ASSERT_EQ(store.status().code(), Code::invalid_argument) << each.text;
    EXPECT_NE(store.status().message().find(each.text), std::string::npos)
        << store.status().message();
  }
}

// Three namespaces at random against a model. "b" stays within half of its quota, so nothing of it
// may ever leave; of the others only what is pinned is promised to stay.
TEST_F(PosixQuotaTest, AtRandomNobodyIsOverQuotaNobodyElsePaysAndPinsHold) {
  const uint64_t seed = std::getenv("UCM_SEED")
                            ? std::strtoull(std::getenv("UCM_SEED"), nullptr, 10)
                            : std::random_device()();
  SCOPED_TRACE("UCM_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const std::vector<std::string> names = {"a", "b", ""};
  const uint64_t limits[] = {30 * kQuotaFile, 20 * kQuotaFile, 50 * kQuotaFile};
  std::vector<StorePtr> stores;
  for (const std::string& name : names) stores.push_back(open_as(name));
  std::vector<std::set<uint64_t>> pinned(names.size());
  std::set<uint64_t> of_b;
  uint64_t next = 0;
  for (int step = 0; step < 250; ++step) {
    const size_t who = random() % names.size();
    Store& store = *stores[who];
    const uint64_t first = next;
    const uint64_t count = 1 + random() % 8;
    switch (random() % 6) {
      case 0:  // an old block again, wherever it is
        if (next > 0) {
          const auto key = make_key(random() % next);
          const auto wrong = load_blocks(store, {key});
          EXPECT_TRUE(!wrong.ok() || wrong.value() == 0);
        }
        break;
      case 1:
        if (next > 0 && pinned[who].size() < 5) {
          const uint64_t number = next - 1 - random() % std::min<uint64_t>(next, 12);
          std::vector<uint8_t> yes(1);
          ASSERT_TRUE(store.pin({{make_key(number)}}, yes).ok());
          if (yes[0] != 0) pinned[who].insert(number);
        }
        break;
      case 2:
        if (!pinned[who].empty() && random() % 2 == 0) {
          const uint64_t number = *pinned[who].begin();
          pinned[who].erase(number);
          if (random() % 2 == 0) {
            ASSERT_TRUE(store.unpin({{make_key(number)}}).ok());
          } else {
            ASSERT_TRUE(store.remove({{make_key(number)}}).ok());
            if (who == 1) of_b.erase(number);
          }
        }
        break;
      default:
        if (who == 1 && of_b.size() + count > 10) break;
        ASSERT_TRUE(dump_blocks(store, make_keys(first, count)).ok());
        next += count;
        for (uint64_t i = 0; who == 1 && i < count; ++i) of_b.insert(first + i);
    }
    for (size_t i = 0; i < names.size(); ++i) {
      ASSERT_LE(used(names[i]), limits[i]) << "step " << step << ", namespace '" << names[i] << "'";
      for (const uint64_t number : pinned[i]) {
        ASSERT_EQ(count_present(*stores[i], {make_key(number)}), 1u) << "step " << step;
      }
    }
    for (const uint64_t number : of_b) {
      ASSERT_EQ(count_present(*stores[1], {make_key(number)}), 1u) << "step " << step;
    }
  }
}

}  // namespace
}  // namespace ucm::test
