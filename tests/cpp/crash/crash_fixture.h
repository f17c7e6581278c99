// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "io/faults.h"
#include "store/stage.h"
#include "test_blocks.h"
#include "ucm/log.h"

// Disk stages that are broken on purpose. Every test prints the seed it runs with; the same seed
// in UCM_SEED runs it again, UCM_CRASH_POINTS asks for more rounds.
namespace ucm::test {

inline uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

class CrashTest : public ::testing::Test {
 protected:
  static constexpr size_t kBlockBytes = 4096 + 100;

  void SetUp() override {
    // Damage and faults are made on purpose here; their warnings are expected.
    set_log_sink([](LogLevel, std::string_view) {}, LogLevel::off);
    std::string pattern = (std::filesystem::temp_directory_path() / "ucm-crash-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    scratch_ = pattern;
    seed_ = from_environment("UCM_SEED", std::random_device()());
    random_.seed(seed_);
    trace_ = std::make_unique<::testing::ScopedTrace>(
        __FILE__, __LINE__, "run it again with UCM_SEED=" + std::to_string(seed_));
  }
  void TearDown() override {
    io::set_faults({});
    trace_.reset();
    set_log_sink({}, LogLevel::warning);
    wipe(scratch_);
  }

  std::string scratch(const std::string& name) const { return scratch_ + "/" + name; }
  // A collector that is late may still work in a folder when its store is closed.
  static void wipe(const std::string& folder) {
    std::error_code error;
    do {
      std::filesystem::remove_all(folder, error);
    } while (std::filesystem::exists(folder));
  }
  uint64_t below(uint64_t limit) { return random_() % limit; }
  static BlockLayout layout() { return BlockLayout::make({kBlockBytes}, 1, 7).value(); }

  // A store of the stage `name` ("disk", "posix") in `folder`.
  static Result<StorePtr> try_open(const char* name, const Options& options,
                                   const std::string& folder, bool read_only = false) {
    Options all = options;
    all["storage_backends"] = folder;
    StageContext context;
    context.options = &all;
    context.layout = layout();
    context.read_only = read_only;
    context.metrics = std::make_shared<base::MetricRegistry>();
    return find_stage(name)->make(std::move(context));
  }
  static StorePtr open(const char* name, const Options& options, const std::string& folder) {
    auto store = try_open(name, options, folder);
    EXPECT_TRUE(store.ok()) << store.status().to_string();
    return store.ok() ? std::move(store).value() : nullptr;
  }

  std::string scratch_;
  uint64_t seed_ = 0;
  std::mt19937_64 random_;
  std::unique_ptr<::testing::ScopedTrace> trace_;
};

// Loads blocks in one task. `right[i]` is 1 for a row that came back, which then has the right
// bytes; what it may fail with is checked as well.
inline std::vector<uint8_t> load_survivors(Store& store, const std::vector<BlockKey>& keys) {
  std::vector<Status> statuses(keys.size());
  std::mutex mutex;
  Buffers buffers(store.layout(), keys.size());
  buffers.wipe();
  Batch batch = make_batch(keys, {}, buffers);
  batch.on_row = [&](uint32_t row, const Status& status) {
    const std::lock_guard lock(mutex);
    statuses[row] = status;
  };
  const TaskPtr task = store.load(batch);
  static_cast<void>(task->wait(kPatience));
  EXPECT_TRUE(task->done());
  std::vector<uint8_t> right(keys.size());
  for (uint32_t i = 0; i < keys.size(); ++i) {
    right[i] = statuses[i].ok() ? 1 : 0;
    if (right[i]) {
      EXPECT_EQ(buffers.wrong_bytes(i, keys[i], 0), 0u) << "wrong bytes for block " << i;
    } else {
      const Code code = statuses[i].code();
      EXPECT_TRUE(code == Code::not_found || code == Code::corruption) << statuses[i].to_string();
    }
  }
  return right;
}

// After what has happened: every block is right or a miss, lookups say what loads can, and the
// store takes blocks again. Unless `alone` something evicts blocks meanwhile.
inline std::vector<uint8_t> check_survivors(Store& store, const std::vector<BlockKey>& keys,
                                            bool alone = true) {
  const std::vector<uint8_t> right = load_survivors(store, keys);
  size_t survivors = 0;
  for (const uint8_t yes : right) survivors += yes;
  const size_t present = count_present(store, keys);
  EXPECT_LE(present, survivors) << "what can not be loaded is not there";
  if (alone) {
    EXPECT_EQ(present, survivors) << "what can be loaded is there";
  }
  const std::vector<BlockKey> fresh = make_keys(1000000, 2);
  EXPECT_EQ(dump_blocks(store, fresh).to_string(), Status().to_string());
  const auto wrong = load_blocks(store, fresh);
  EXPECT_TRUE(wrong.ok() && wrong.value() == 0) << wrong.status().to_string();
  return right;
}

}  // namespace ucm::test
