// SPDX-License-Identifier: Apache-2.0
// What every stage owes to whoever stands above it. New folders of src/stages are picked up.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include "store/stage.h"
#include "test_blocks.h"

namespace ucm::test {
namespace {

// A stage, and for Posix also one namespace of a directory where small blocks share files.
struct StageCase {
  const StageEntry* entry;
  bool divided = false;
  const StageEntry* operator->() const { return entry; }
};

void PrintTo(const StageCase& each, std::ostream* out) { *out << each.entry->name; }

std::vector<StageCase> stage_cases() {
  std::vector<StageCase> cases;
  for (const StageEntry* entry : stage_table()) cases.push_back({entry});
  cases.push_back({find_stage("posix"), true});
  return cases;
}

class StageContractTest : public ::testing::TestWithParam<StageCase> {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "ucm-contract-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    options_ = {{"storage_backends", folder_ + "/store"},
                {"buffer_number", int64_t{128}},
                {"capacity_bytes", int64_t{64} << 20},
                {"pack_bytes", int64_t{GetParam().divided ? 65536 : 0}},
                {"prefault", false},
                {"timeout_s", 20.0}};
    if (!GetParam().divided) return;
    options_["namespace"] = std::string("a");
    options_["quotas"] = std::vector<std::string>{"a=50%", "b=10%"};
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  bool remembers() const { return std::string(GetParam()->name) != "Null"; }
  bool keeps_bytes() const { return GetParam()->role != StageRole::sink; }
  bool takes_shards() const { return GetParam()->role != StageRole::storage; }

  BlockLayout layout() const {
    const BlockLayout full = BlockLayout::make({1000, 3000}, 3, 5).value();
    return takes_shards() ? full : full.flat();
  }
  Result<StorePtr> try_open(const BlockLayout& layout, bool read_only = false) {
    registry_ = std::make_shared<base::MetricRegistry>();
    StageContext context;
    context.options = &options_;
    context.layout = layout;
    context.read_only = read_only;
    context.metrics = registry_;
    UCM_TRY_ASSIGN(context.device, open_device("cpu", 0));
    return GetParam()->make(std::move(context));
  }
  StorePtr open() {
    auto store = try_open(layout());
    EXPECT_TRUE(store.ok()) << store.status().to_string();
    return store.ok() ? std::move(store).value() : nullptr;
  }
  // What a lookup should say about blocks that were dumped.
  size_t expected(size_t dumped) const { return remembers() ? dumped : 0; }
  void expect_content(Store& store, const std::vector<BlockKey>& keys) {
    const auto wrong = load_blocks(store, keys);
    if (!remembers()) {
      EXPECT_EQ(wrong.status().code(), Code::not_found);
      return;
    }
    ASSERT_TRUE(wrong.ok()) << wrong.status().to_string();
    if (keeps_bytes()) {
      EXPECT_EQ(wrong.value(), 0u);
    }
  }

  std::string folder_;
  Options options_;
  std::shared_ptr<base::MetricRegistry> registry_;
};

TEST_P(StageContractTest, WhatWasDumpedIsFoundAndComesBack) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 20);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(count_present(*store, keys), expected(keys.size()));
  expect_content(*store, keys);
}

TEST_P(StageContractTest, ALookupAnswersEveryKeyInItsPlace) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(*store, {keys[0], keys[2]}).ok());
  std::vector<uint8_t> present(3, 9);
  ASSERT_TRUE(store->lookup(keys, present).ok());
  const uint8_t yes = remembers() ? 1 : 0;
  EXPECT_EQ(present, (std::vector<uint8_t>{yes, 0, yes}));
}

TEST_P(StageContractTest, APrefixEndsAtTheFirstMiss) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 80);
  std::vector<BlockKey> dumped = keys;
  dumped.erase(dumped.begin() + 41);
  ASSERT_TRUE(dump_blocks(*store, dumped).ok());
  EXPECT_EQ(store->lookup_prefix(keys).value(), expected(41));
  EXPECT_EQ(store->lookup_prefix(std::span(keys).first(30)).value(), expected(30));
  EXPECT_EQ(store->lookup_prefix(std::span(keys).subspan(41)).value(), 0u);
  EXPECT_EQ(store->lookup_prefix({}).value(), 0u);
}

TEST_P(StageContractTest, RemovedBlocksAreGoneAndAbsentOnesAreNoError) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 6);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  ASSERT_TRUE(store->remove(std::span(keys).first(3)).ok());
  ASSERT_TRUE(store->remove(make_keys(100, 3)).ok());
  EXPECT_EQ(count_present(*store, keys), expected(3));
  EXPECT_EQ(load_blocks(*store, {keys[0]}).status().code(), Code::not_found);
  expect_content(*store, {keys[3], keys[4], keys[5]});
  ASSERT_TRUE(dump_blocks(*store, {keys[0]}).ok());
  expect_content(*store, {keys[0]});
}

TEST_P(StageContractTest, ABlockThatIsThereCanBeDumpedAgain) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 5);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(count_present(*store, keys), expected(keys.size()));
  expect_content(*store, keys);
}

TEST_P(StageContractTest, AnAbsentBlockFailsItsRowOnlyAndLeavesNoTrace) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(*store, {keys[0], keys[2]}).ok());
  Buffers buffers(store->layout(), 3);
  const TaskPtr task = store->load(make_batch(keys, {}, buffers));
  EXPECT_EQ(task->wait(kPatience).code(), Code::not_found);
  if (remembers()) {
    EXPECT_EQ(task->failed_rows(), std::vector<uint32_t>{1});
    if (keeps_bytes()) {
      EXPECT_EQ(buffers.wrong_bytes(0, keys[0], 0) + buffers.wrong_bytes(2, keys[2], 0), 0u);
    }
  }
  EXPECT_EQ(count_present(*store, keys), expected(2));
  ASSERT_TRUE(dump_blocks(*store, {keys[1]}).ok());
  EXPECT_EQ(count_present(*store, keys), expected(3));
}

TEST_P(StageContractTest, ABlockIsVisibleOnlyWhenAllItsShardsArrived) {
  const StorePtr store = open();
  const uint32_t shards = store->layout().shards();
  const std::vector<BlockKey> keys = make_keys(0, 4);
  for (uint32_t shard = 0; shard < shards; ++shard) {
    EXPECT_EQ(count_present(*store, keys), 0u) << shard;
    Buffers buffers(store->layout(), keys.size());
    for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], shard);
    const std::vector<uint32_t> numbers(keys.size(), shard);
    ASSERT_TRUE(store->dump(make_batch(keys, numbers, buffers))->wait(kPatience).ok());
  }
  EXPECT_EQ(count_present(*store, keys), expected(keys.size()));
}

TEST_P(StageContractTest, ABatchThatDoesNotFitTheLayoutIsRefusedAtOnce) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 2);
  const Buffers buffers(store->layout(), 2);
  const std::vector<uint32_t> three_shards(3);
  const std::vector<uint32_t> far_shards(2, store->layout().shards());
  const std::vector<uintptr_t> nulls(buffers.addresses().size(), 0);

  std::vector<Batch> batches(5, make_batch(keys, {}, buffers));
  batches[0].addresses = buffers.addresses().first(1);
  batches[1].addresses = {};
  batches[2].shards = three_shards;
  batches[3].shards = far_shards;
  batches[4].addresses = nulls;
  for (size_t i = 0; i < batches.size(); ++i) {
    for (const Direction direction : {Direction::load, Direction::dump}) {
      const TaskPtr task =
          direction == Direction::load ? store->load(batches[i]) : store->dump(batches[i]);
      ASSERT_NE(task, nullptr);
      EXPECT_TRUE(task->done()) << i;
      EXPECT_EQ(task->status().code(), Code::invalid_argument) << i;
      EXPECT_EQ(task->failed_rows().size(), 2u) << i;
    }
  }
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  expect_content(*store, keys);
}

TEST_P(StageContractTest, EachRowIsReportedOnceAndBeforeTheTaskIsDone) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 10);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  for (const Direction direction : {Direction::dump, Direction::load}) {
    Buffers buffers(store->layout(), keys.size());
    for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], 0);
    std::mutex mutex;
    std::vector<int> reports(keys.size());
    Batch batch = make_batch(keys, {}, buffers);
    batch.on_row = [&](uint32_t row, const Status& status) {
      const std::lock_guard lock(mutex);
      ++reports[row];
      EXPECT_EQ(status.ok(), remembers() || direction == Direction::dump);
    };
    const TaskPtr task = direction == Direction::load ? store->load(batch) : store->dump(batch);
    (void)task->wait(kPatience);
    ASSERT_TRUE(task->done());
    EXPECT_TRUE(task->released());
    const std::lock_guard lock(mutex);
    EXPECT_EQ(reports, std::vector<int>(keys.size(), 1));
  }
}

TEST_P(StageContractTest, AnEmptyBatchIsDoneAtOnce) {
  const StorePtr store = open();
  for (const TaskPtr& task : {store->load({}), store->dump({})}) {
    ASSERT_TRUE(task->done());
    EXPECT_TRUE(task->status().ok());
  }
}

TEST_P(StageContractTest, AKeyMayStandTwiceInOneBatch) {
  const StorePtr store = open();
  const BlockKey key = make_key(1);
  const std::vector<BlockKey> keys = {key, key, make_key(2), key};
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  expect_content(*store, keys);
}

TEST_P(StageContractTest, PrefetchIsAHintThatNeverFailsForAbsentBlocks) {
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, make_keys(0, 3)).ok());
  EXPECT_TRUE(store->prefetch(make_keys(0, 6)).ok());
  expect_content(*store, make_keys(0, 3));
}

TEST_P(StageContractTest, AfterCloseEveryCallIsUnavailable) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  store->close();
  store->close();
  std::vector<uint8_t> present(2);
  EXPECT_EQ(store->lookup(keys, present).code(), Code::unavailable);
  EXPECT_EQ(store->lookup_prefix(keys).status().code(), Code::unavailable);
  EXPECT_EQ(store->remove(keys).code(), Code::unavailable);
  Buffers buffers(store->layout(), 2);
  for (const TaskPtr& task :
       {store->load(make_batch(keys, {}, buffers)), store->dump(make_batch(keys, {}, buffers))}) {
    EXPECT_EQ(task->wait(kPatience).code(), Code::unavailable);
  }
}

TEST_P(StageContractTest, CloseLetsWhatIsUnderWayEnd) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 60);
  std::vector<TaskPtr> tasks;
  Buffers buffers(store->layout(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], 0);
  tasks.push_back(store->dump(make_batch(keys, {}, buffers)));
  tasks.push_back(store->dump(make_batch(keys, {}, buffers)));
  store->close();
  for (const TaskPtr& task : tasks) EXPECT_TRUE(task->done());
}

TEST_P(StageContractTest, WithoutALayoutOnlyLookupsAndRemovalsWork) {
  ASSERT_TRUE(dump_blocks(*open(), make_keys(0, 2)).ok());
  auto opened = try_open(BlockLayout());
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  const StorePtr store = std::move(opened).value();
  EXPECT_TRUE(store->layout().empty());
  const auto keys = make_keys(0, 2);
  std::vector<uint8_t> present(2);
  EXPECT_TRUE(store->lookup(keys, present).ok());
  EXPECT_TRUE(store->lookup_prefix(keys).ok());
  Batch batch;
  batch.keys = keys;
  EXPECT_EQ(store->load(batch)->status().code(), Code::invalid_argument);
  EXPECT_EQ(store->dump(batch)->status().code(), Code::invalid_argument);
}

TEST_P(StageContractTest, AReaderSeesWhatAWriterHasDoneAndDumpsNothing) {
  if (GetParam()->role != StageRole::storage) {
    auto reader = try_open(layout(), true);
    ASSERT_TRUE(reader.ok());
    EXPECT_EQ(dump_blocks(*reader.value(), make_keys(0, 1)).code(), Code::unsupported);
    return;
  }
  const StorePtr writer = open();
  const auto keys = make_keys(0, 5);
  ASSERT_TRUE(dump_blocks(*writer, keys).ok());
  auto opened = try_open(layout(), true);
  ASSERT_TRUE(opened.ok()) << opened.status().to_string();
  const StorePtr reader = std::move(opened).value();
  EXPECT_EQ(count_present(*reader, make_keys(0, 8)), 5u);
  expect_content(*reader, keys);
  EXPECT_EQ(dump_blocks(*reader, make_keys(50, 1)).code(), Code::unsupported);
  EXPECT_EQ(count_present(*writer, make_keys(50, 1)), 0u);
}

TEST_P(StageContractTest, ThreadsMayDoEverythingAtOnce) {
  const StorePtr store = open();
  std::vector<std::thread> threads;
  std::vector<size_t> wrong(4);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t round = 0; round < 15; ++round) {
        // Neighbours share half of their keys.
        const auto keys = make_keys((t + round) * 4, 8);
        (void)dump_blocks(*store, keys);
        (void)count_present(*store, keys);
        (void)store->lookup_prefix(keys);
        if (round % 5 == 4) (void)store->remove({&keys[0], 1});
        for (const BlockKey& key : keys) {
          // Another thread may have removed it: then it is a miss, never other bytes.
          const auto loaded = load_blocks(*store, {key});
          if (loaded.ok() && keeps_bytes()) wrong[t] += loaded.value();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<size_t>(wrong.size(), 0));
}

TEST_P(StageContractTest, LookupsAreCountedUnderTheNameOfTheStage) {
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, make_keys(0, 3)).ok());
  const auto value = [&](const char* name) {
    for (const MetricSample& sample : registry_->samples()) {
      if (sample.name == name && sample.labels.at(0).second == GetParam()->name) {
        return sample.value;
      }
    }
    return -1.0;
  };
  const double asked = value("ucm_lookup_blocks_total");
  const double hits = value("ucm_lookup_hit_blocks_total");
  std::vector<uint8_t> present(5);
  ASSERT_TRUE(store->lookup(make_keys(0, 5), present).ok());
  EXPECT_EQ(value("ucm_lookup_blocks_total") - asked, 5);
  EXPECT_EQ(value("ucm_lookup_hit_blocks_total") - hits, static_cast<double>(expected(3)));
}

INSTANTIATE_TEST_SUITE_P(Every, StageContractTest, ::testing::ValuesIn(stage_cases()),
                         [](const auto& each) {
                           return std::string(each.param->name) +
                                  (each.param.divided ? "Divided" : "");
                         });

}  // namespace
}  // namespace ucm::test
