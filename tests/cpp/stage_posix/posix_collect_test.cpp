// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>

#include "posix_fixture.h"
#include "stages/posix/posix_lease.h"

namespace ucm::test {
namespace {

constexpr uint64_t kFileBytes = 5 * 4096;

class PosixCollectTest : public PosixTest {
 protected:
  static size_t count_blocks(const std::string& folder) {
    size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      count += entry.is_regular_file() && entry.path().filename().string().size() == 32;
    }
    return count;
  }
  static void set_age(const std::string& path, int64_t seconds) {
    std::filesystem::last_write_time(
        path, std::filesystem::file_time_type::clock::now() - std::chrono::seconds(seconds));
  }
};

TEST_F(PosixCollectTest, TheOldestBlocksLeaveWhenTheCapacityIsReached) {
  options_["capacity_bytes"] = static_cast<int64_t>(1000 * kFileBytes);
  {
    const StorePtr store = open();
    ASSERT_TRUE(dump_blocks(*store, make_keys(0, 95)).ok());
    for (uint64_t i = 0; i < 95; ++i) set_age(file_of(make_key(i)), 1000 - static_cast<int64_t>(i));
    // A block that is loaded becomes young again.
    ASSERT_EQ(load_blocks(*store, {make_key(3)}).value(), 0u);
  }
  options_["capacity_bytes"] = static_cast<int64_t>(100 * kFileBytes);
  options_["eviction_low"] = 0.5;
  const StorePtr store = open();
  ASSERT_TRUE(eventually([&] { return metric("ucm_blocks") == 50; }));
  EXPECT_EQ(count_blocks(root()), 50u);
  EXPECT_EQ(metric("ucm_used_bytes"), static_cast<double>(50 * kFileBytes));
  EXPECT_EQ(metric("ucm_capacity_bytes"), static_cast<double>(100 * kFileBytes));
  EXPECT_EQ(metric("ucm_evicted_blocks_total"), 45);
  EXPECT_EQ(count_present(*store, make_keys(46, 49)), 49u);
  EXPECT_EQ(count_present(*store, {make_key(3)}), 1u);
}

// What is written into a folder that a count has read already is missing from that count.
TEST_F(PosixCollectTest, BlocksThatAreWrittenDuringACountAreInTheFigures) {
  const BlockKey early = make_key(0);
  ASSERT_TRUE(dump_blocks(*open(), {early}).ok());
  std::vector<BlockKey> late;
  for (uint64_t i = 1; late.size() < 3; ++i) {
    if (folder_of(make_key(i)) == folder_of(early)) late.push_back(make_key(i));
  }
  io::set_faults({{.operation = io::Operation::stat, .path = file_of(early), .hang = true}});
  const StorePtr store = open();
  ASSERT_TRUE(eventually([] { return io::faults_taken() == 1; }));
  ASSERT_TRUE(dump_blocks(*store, late).ok());
  EXPECT_EQ(metric("ucm_blocks"), 3);
  io::set_faults({});
  EXPECT_TRUE(eventually([&] { return metric("ucm_blocks") == 4; }));
  EXPECT_EQ(metric("ucm_used_bytes"), static_cast<double>(4 * kFileBytes));
}

TEST_F(PosixCollectTest, WritingStartsACollectionByItself) {
  options_["capacity_bytes"] = static_cast<int64_t>(100 * kFileBytes);
  options_["eviction_low"] = 0.5;
  const StorePtr store = open();
  for (uint64_t i = 0; i < 400; i += 10) ASSERT_TRUE(dump_blocks(*store, make_keys(i, 10)).ok());
  EXPECT_TRUE(eventually([&] { return count_blocks(root()) <= 90; }));
  EXPECT_GT(count_blocks(root()), 0u);
  // The youngest batch is still there.
  EXPECT_EQ(count_present(*store, make_keys(390, 10)), 10u);
}

TEST_F(PosixCollectTest, TheTailOfABatchLeavesBeforeItsHead) {
  const auto chain = make_keys(0, 95);
  options_["capacity_bytes"] = static_cast<int64_t>(1000 * kFileBytes);
  ASSERT_TRUE(dump_blocks(*open(), chain).ok());
  options_["capacity_bytes"] = static_cast<int64_t>(100 * kFileBytes);
  options_["eviction_low"] = 0.5;
  const StorePtr store = open();
  ASSERT_TRUE(eventually([&] { return count_blocks(root()) == 50; }));
  EXPECT_EQ(store->lookup_prefix(chain).value(), 50u);
}

TEST_F(PosixCollectTest, APinnedBlockStaysAlsoForTheCollectorOfAnotherStore) {
  options_["capacity_bytes"] = static_cast<int64_t>(1000 * kFileBytes);
  std::vector<uint8_t> pinned(3);
  {
    const StorePtr store = open();
    ASSERT_TRUE(dump_blocks(*store, make_keys(0, 95)).ok());
    for (uint64_t i = 0; i < 95; ++i) set_age(file_of(make_key(i)), 1000 - static_cast<int64_t>(i));
    ASSERT_TRUE(store->pin({{make_key(0), make_key(1), make_key(500)}}, pinned).ok());
    EXPECT_EQ(pinned, (std::vector<uint8_t>{1, 1, 0}));
    ASSERT_TRUE(store->unpin({{make_key(1), make_key(500)}}).ok());
  }
  options_["capacity_bytes"] = static_cast<int64_t>(100 * kFileBytes);
  options_["eviction_low"] = 0.5;
  const StorePtr store = open();
  ASSERT_TRUE(eventually([&] { return count_blocks(root()) == 50; }));
  EXPECT_EQ(count_present(*store, {make_key(0)}), 1u);
  EXPECT_EQ(count_present(*store, {make_key(1), make_key(2)}), 0u);
  EXPECT_EQ(load_blocks(*store, {make_key(0)}).value(), 0u);
}

TEST_F(PosixCollectTest, PinsBeyondTheLimitHaveNoEffect) {
  options_["capacity_bytes"] = static_cast<int64_t>(1000 * kFileBytes);
  {
    const StorePtr store = open();
    const auto keys = make_keys(0, 95);
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    for (uint64_t i = 0; i < 95; ++i) set_age(file_of(make_key(i)), 1000 - static_cast<int64_t>(i));
    std::vector<uint8_t> pinned(keys.size());
    ASSERT_TRUE(store->pin(keys, pinned).ok());
  }
  options_["capacity_bytes"] = static_cast<int64_t>(100 * kFileBytes);
  options_["eviction_low"] = 0.5;
  options_["pin_limit"] = 0.2;
  const StorePtr store = open();
  ASSERT_TRUE(eventually([&] { return count_blocks(root()) == 50; }));
  EXPECT_EQ(count_present(*store, make_keys(45, 50)), 50u) << "the youngest stay";
}

TEST_F(PosixCollectTest, EveryRootIsKeptBelowItsCapacity) {
  options_["storage_backends"] = std::vector<std::string>{scratch("a"), scratch("b"), scratch("c")};
  options_["capacity_bytes"] = static_cast<int64_t>(40 * kFileBytes);
  options_["eviction_high"] = 0.8;
  options_["eviction_low"] = 0.4;
  const StorePtr store = open();
  for (uint64_t i = 0; i < 240; i += 20) ASSERT_TRUE(dump_blocks(*store, make_keys(i, 20)).ok());
  for (const char* name : {"a", "b", "c"}) {
    ASSERT_TRUE(eventually([&] { return count_blocks(scratch(name)) <= 40; })) << name;
    EXPECT_GT(count_blocks(scratch(name)), 0u);
  }
  EXPECT_GT(metric("ucm_evicted_blocks_total"), 0);
}

TEST_F(PosixCollectTest, APinIsAFileThatGoesWithItsBlock) {
  const StorePtr store = open();
  const BlockKey key = make_key(1);
  const std::string mark = posix::pin_path(root(), key);
  std::vector<uint8_t> pinned(1);
  ASSERT_TRUE(store->pin({{key}}, pinned).ok());
  EXPECT_EQ(pinned[0], 0);
  EXPECT_FALSE(std::filesystem::exists(mark));
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  ASSERT_TRUE(store->pin({{key}}, pinned).ok());
  EXPECT_EQ(pinned[0], 1);
  EXPECT_EQ(std::filesystem::file_size(mark), 0u);
  ASSERT_TRUE(store->remove({{key}}).ok());
  EXPECT_FALSE(std::filesystem::exists(mark));
  // One that was left without a block is reaped when it is old.
  std::ofstream(mark).flush();
  std::ofstream(posix::pin_path(root(), make_key(2))).flush();
  set_age(mark, 3700);
  const StorePtr again = open();
  EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(mark); }));
}

TEST_F(PosixCollectTest, ABlockIsKeptOnItsSecondUseWhereThatIsAsked) {
  options_["admission"] = std::string("second_use");
  const StorePtr store = open();
  const auto keys = make_keys(0, 10);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(count_present(*store, keys), 0u);
  EXPECT_EQ(metric("ucm_refused_blocks_total"), 10);
  ASSERT_TRUE(dump_blocks(*store, make_keys(5, 10)).ok());
  EXPECT_EQ(count_present(*store, make_keys(0, 20)), 5u);
  EXPECT_EQ(load_blocks(*store, make_keys(5, 5)).value(), 0u);
}

TEST_F(PosixCollectTest, TheShadowSaysWhatTwiceTheCapacityWouldHit) {
  options_["capacity_bytes"] = static_cast<int64_t>(100 * kFileBytes);
  const StorePtr store = open();
  const auto keys = make_keys(0, 150);
  for (uint64_t i = 0; i < 150; i += 10) ASSERT_TRUE(dump_blocks(*store, make_keys(i, 10)).ok());
  (void)count_present(*store, make_keys(0, 300));
  EXPECT_EQ(metric("ucm_shadow_lookup_blocks_total"), 300);
  EXPECT_EQ(metric("ucm_shadow_lookup_hit_blocks_total"), 150);
  ASSERT_TRUE(store->remove(make_keys(0, 50)).ok());
  (void)store->lookup_prefix(make_keys(50, 200));
  EXPECT_EQ(metric("ucm_shadow_lookup_hit_blocks_total"), 250);
}

TEST_F(PosixCollectTest, WithoutACapacityNothingIsCollected) {
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, make_keys(0, 30)).ok());
  set_age(file_of(make_key(0)), 1'000'000);
  const StorePtr again = open();
  ASSERT_TRUE(eventually([&] { return metric("ucm_blocks") == 30; }));
  EXPECT_EQ(count_present(*again, make_keys(0, 30)), 30u);
}

TEST_F(PosixCollectTest, TemporaryFilesOfDeadWritersAreReapedAfterAnHour) {
  ASSERT_TRUE(dump_blocks(*open(), make_keys(0, 1)).ok());
  const std::string folder = std::filesystem::path(file_of(make_key(0))).parent_path();
  for (const char* name : {"/.t-old-1-1", "/.t-new-1-1"}) std::ofstream(folder + name) << "x";
  std::ofstream(root() + "/.t-old-2-2") << "x";
  set_age(folder + "/.t-old-1-1", 3700);
  set_age(root() + "/.t-old-2-2", 3700);
  const StorePtr store = open();
  EXPECT_TRUE(eventually([&] { return count_files(root(), ".t-old") == 0; }));
  EXPECT_EQ(count_files(root(), ".t-new"), 1u);
  EXPECT_EQ(count_present(*store, make_keys(0, 1)), 1u);
}

TEST_F(PosixCollectTest, OneCollectorIsElectedAndAStaleLeaseIsTakenOver) {
  std::filesystem::create_directories(root());
  posix::CollectorLease first(root());
  posix::CollectorLease second(root());
  EXPECT_TRUE(first.acquire(0600).value());
  EXPECT_FALSE(second.acquire(0600).value());
  EXPECT_TRUE(first.renew());
  first.release();
  EXPECT_TRUE(second.acquire(0600).value());
  set_age(root() + "/.collector", 100);
  EXPECT_TRUE(first.acquire(0600).value());
  EXPECT_FALSE(second.renew());
  second.release();
  EXPECT_TRUE(first.renew());
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
}

TEST_F(PosixCollectTest, AFullDiskDoesNotKeepTheCollectorFromWorking) {
  for (const io::Operation operation : {io::Operation::open, io::Operation::write}) {
    options_["storage_backends"] = scratch(operation == io::Operation::open ? "open" : "write");
    options_["capacity_bytes"] = static_cast<int64_t>(1000 * kFileBytes);
    ASSERT_TRUE(dump_blocks(*open(), make_keys(0, 95)).ok());
    options_["capacity_bytes"] = static_cast<int64_t>(100 * kFileBytes);
    io::set_faults({{.operation = operation, .path = "/.t-", .error = ENOSPC}});
    const StorePtr store = open();
    EXPECT_TRUE(eventually([&] { return metric("ucm_evicted_blocks_total") == 15; }));
    io::set_faults({});
  }
}

TEST_F(PosixCollectTest, TheLeaseOfADeadProcessOfThisMachineIsTakenOverAtOnce) {
  std::filesystem::create_directories(root());
  const pid_t child = ::fork();
  if (child == 0) {
    posix::CollectorLease lease(root());
    const bool ours = lease.acquire(0600).value();
    ::kill(::getpid(), ours ? SIGKILL : SIGTERM);
  }
  int state = 0;
  ASSERT_EQ(::waitpid(child, &state, 0), child);
  ASSERT_EQ(WTERMSIG(state), SIGKILL);
  posix::CollectorLease lease(root());
  EXPECT_TRUE(lease.acquire(0600).value());
}

class PosixRootsTest : public PosixCollectTest {
 protected:
  void SetUp() override {
    PosixCollectTest::SetUp();
    options_["storage_backends"] =
        std::vector<std::string>{scratch("a"), scratch("b"), scratch("c")};
  }
};

TEST_F(PosixRootsTest, BlocksSpreadOverAllRootsAndAreFoundWhateverTheStrategyWas) {
  const auto keys = make_keys(0, 90);
  for (const char* strategy : {"hash", "round_robin"}) {
    options_["path_strategy"] = strategy;
    ASSERT_TRUE(dump_blocks(*open(), keys).ok());
    for (const char* name : {"a", "b", "c"}) EXPECT_GT(count_blocks(scratch(name)), 15u);
    for (const char* other : {"hash", "round_robin"}) {
      options_["path_strategy"] = other;
      const StorePtr store = open();
      EXPECT_EQ(store->lookup_prefix(keys).value(), keys.size());
      EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
      // A second dump finds them too.
      ASSERT_TRUE(dump_blocks(*store, keys).ok());
    }
    size_t files = 0;
    for (const char* name : {"a", "b", "c"}) files += count_blocks(scratch(name));
    EXPECT_EQ(files, keys.size());
    ASSERT_TRUE(open()->remove(keys).ok());
  }
}

TEST_F(PosixRootsTest, ARootThatFailsDoesNotHideTheOthers) {
  const auto keys = make_keys(0, 60);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  const size_t lost = count_blocks(scratch("b"));
  io::set_faults({{.path = scratch("b"), .error = EIO}});
  EXPECT_EQ(count_present(*store, keys), keys.size() - lost);
  // New blocks go to the roots that work.
  const auto fresh = make_keys(1000, 30);
  ASSERT_TRUE(dump_blocks(*store, fresh).ok());
  EXPECT_EQ(load_blocks(*store, fresh).value(), 0u);
  io::set_faults({});
  EXPECT_EQ(count_present(*store, keys), keys.size());
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
}

TEST_F(PosixRootsTest, AFullRootIsPassedOver) {
  const StorePtr store = open();
  io::set_faults({{.operation = io::Operation::write, .path = scratch("a"), .error = ENOSPC}});
  const auto keys = make_keys(0, 30);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(count_blocks(scratch("a")), 0u);
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
}

TEST_F(PosixRootsTest, ADeviceThatIsDownAtOpeningIsUsedAgainWhenItWorks) {
  io::set_faults({{.path = scratch("c"), .error = EIO}});
  const StorePtr store = open();
  ASSERT_NE(store, nullptr);
  const auto keys = make_keys(0, 30);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(count_present(*store, keys), keys.size());
  io::set_faults({});
  ASSERT_TRUE(dump_blocks(*store, make_keys(500, 60)).ok());
  EXPECT_GT(count_blocks(scratch("c")), 0u);
  EXPECT_TRUE(std::filesystem::exists(scratch("c") + "/FORMAT.json"));
}

TEST_F(PosixRootsTest, LookupsFailOnlyWhenNoRootCanAnswer) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 3);
  std::vector<uint8_t> present(3);
  io::set_faults({{.path = scratch("a"), .error = EIO}, {.path = scratch("b"), .error = EIO}});
  EXPECT_TRUE(store->lookup(keys, present).ok());
  io::set_faults({{.path = scratch_, .error = EIO}});
  EXPECT_EQ(store->lookup(keys, present).code(), Code::io_error);
}

}  // namespace
}  // namespace ucm::test
