// SPDX-License-Identifier: Apache-2.0
// A storage on a bad day: errors, short, slow and interrupted calls by chance, under work.
#include <atomic>
#include <cerrno>
#include <thread>

#include "crash_fixture.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

constexpr uint64_t kSickUniverse = 64;

class SickStorageTest : public CrashTest, public ::testing::WithParamInterface<const char*> {
 protected:
  std::vector<FaultRule> trouble() {
    using Operation = FileOperation;
    const std::string path = scratch("store");
    std::vector<FaultRule> rules = {
        {.operation = Operation::read, .path = path, .error = EIO},
        {.operation = Operation::write, .path = path, .error = ENOSPC},
        {.operation = Operation::write, .path = path, .error = EIO},
        {.operation = Operation::stat, .path = path, .error = ESTALE},
        {.operation = Operation::any, .path = path, .error = EINTR},
        {.operation = Operation::any, .path = path, .cut = true},
        {.operation = Operation::any, .path = path, .delay_ms = 20},
    };
    const double chances[] = {0.01, 0.01, 0.01, 0.005, 0.1, 0.2, 0.01};
    for (size_t i = 0; i < rules.size(); ++i) {
      rules[i].probability = chances[i];
      rules[i].seed = random_();
    }
    return rules;
  }

  std::unique_ptr<Pipeline> open_pipeline() const {
    PipelineConfig config;
    config.spec = GetParam();
    config.options = {{"storage_backends", scratch("store")},     {"buffer_number", int64_t{8}},
                      {"capacity_bytes", int64_t{32 * 3 * 4096}}, {"prefault", false},
                      {"segment_bytes", int64_t{16 * 4096}},      {"timeout_s", 15.0}};
    config.layout = layout();
    auto store = Pipeline::open(config);
    EXPECT_TRUE(store.ok()) << store.status().to_string();
    return store.ok() ? std::move(store).value() : nullptr;
  }

  // Does this and that; every row has to end, with right bytes when it says so.
  void work(Store& store, uint64_t seed) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < 150 && !HasFailure(); ++i) {
      const uint64_t first = random() % kSickUniverse;
      const auto keys = make_keys(first, 1 + random() % 3);
      const uint64_t kind = random() % 16;
      if (kind == 0) {
        static_cast<void>(store.remove(keys));
        continue;
      }
      Buffers buffers(store.layout(), keys.size());
      const bool dump = kind < 8;
      for (size_t row = 0; dump && row < keys.size(); ++row) buffers.fill(row, keys[row], 0);
      const Batch batch = make_batch(keys, {}, buffers);
      const TaskPtr task = dump ? store.dump(batch) : store.load(batch);
      static_cast<void>(task->wait(kPatience));
      ASSERT_TRUE(task->done()) << (dump ? "a dump" : "a load") << " does not end";
      const auto failed = task->failed_rows();
      for (uint32_t row = 0; !dump && row < keys.size(); ++row) {
        if (std::count(failed.begin(), failed.end(), row) > 0) continue;
        EXPECT_EQ(buffers.wrong_bytes(row, keys[row], 0), 0u);
      }
    }
  }
};

TEST_P(SickStorageTest, every_row_ends_and_the_store_is_well_when_its_storage_is) {
  const uint64_t rounds = from_environment("UCM_SICK_ROUNDS", 2);
  for (uint64_t round = 0; round < rounds && !HasFailure(); ++round) {
    const auto store = open_pipeline();
    ASSERT_TRUE(store);
    io::set_faults(trouble());
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&, seed = random_()] { work(*store, seed); });
    }
    for (std::thread& thread : threads) thread.join();
    io::set_faults({});
    store->close();
    const auto again = open_pipeline();
    ASSERT_TRUE(again);
    const auto keys = make_keys(2000, 4);
    EXPECT_EQ(dump_blocks(*again, keys).to_string(), Status().to_string());
    const auto wrong = load_blocks(*again, keys);
    EXPECT_TRUE(wrong.ok() && wrong.value() == 0) << wrong.status().to_string();
  }
}

INSTANTIATE_TEST_SUITE_P(Pipelines, SickStorageTest,
                         ::testing::Values("Disk", "Cache|Disk", "Posix", "Cache|Posix"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '|', '_');
                           return name;
                         });

}  // namespace
}  // namespace ucm::test
