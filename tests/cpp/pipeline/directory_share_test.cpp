// SPDX-License-Identifier: Apache-2.0
// Processes that use one directory: a writer and readers of Disk, writers of Posix.
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "processes.h"
#include "test_blocks.h"
#include "ucm/log.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

namespace fs = std::filesystem;

class DirectoryShareTest : public ::testing::Test {
 protected:
  void SetUp() override {
    set_log_sink({}, LogLevel::error);
    std::string pattern = (fs::temp_directory_path() / "ucm-directory-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override {
    set_log_sink({}, LogLevel::warning);
    fs::remove_all(folder_);
  }

  std::unique_ptr<Pipeline> open(const std::string& spec, int64_t blocks,
                                 bool read_only = false) const {
    PipelineConfig config;
    config.spec = spec;
    config.options = {{"storage_backends", folder_ + "/store"},
                      {"capacity_bytes", blocks * 8192},
                      {"pack_bytes", int64_t{0}},  // a file for each block, so they can be counted
                      {"buffer_number", int64_t{32}}};
    config.layout = layout_;
    config.read_only = read_only;
    auto opened = Pipeline::open(config);
    return opened.ok() ? std::move(opened).value() : nullptr;
  }

  const BlockLayout layout_ = BlockLayout::make({4000}, 1, 3).value();
  std::string folder_;
};

// Whether what is there of some blocks is right.
bool right_or_missing(Store& store, const std::vector<BlockKey>& keys) {
  for (const BlockKey& key : keys) {
    const auto wrong = load_blocks(store, {key});
    if (wrong.ok() ? wrong.value() != 0 : wrong.status().code() == Code::internal) return false;
  }
  return true;
}

TEST_F(DirectoryShareTest, ReadersInOtherProcessesSeeABlockOnceItsDumpIsDone) {
  constexpr uint64_t kBlocks = 240;
  SharedValue<std::atomic<uint64_t>> done;
  std::vector<Child> readers;
  for (uint64_t seed = 0; seed < 3; ++seed) {
    readers.emplace_back([&, seed] {
      const auto store = open("Disk", 2 * kBlocks, /*read_only=*/true);
      std::mt19937_64 random(seed);
      for (uint64_t known = 0; known < kBlocks;) {
        known = *done;
        if (known == 0) continue;
        if (store->lookup_prefix(make_keys(0, known)).value() < known) return 1;
        const auto wrong = load_blocks(*store, make_keys(random() % known, 1));
        if (!wrong.ok() || wrong.value() != 0) return 2;
      }
      return 0;
    });
  }
  const auto writer = open("Disk", 2 * kBlocks);
  for (uint64_t i = 0; i < kBlocks; i += 4) {
    ASSERT_TRUE(dump_blocks(*writer, make_keys(i, 4)).ok());
    *done = i + 4;
  }
  for (Child& reader : readers) EXPECT_EQ(reader.wait(), 0);
}

TEST_F(DirectoryShareTest, ReadersGoOnWhileWritersAreKilledAndOthersTakeOver) {
  constexpr int64_t kCapacity = 64;  // smaller than what is written: slots are reused all the time
  SharedValue<std::atomic<bool>> stop;
  SharedValue<std::atomic<uint64_t>> done;
  SharedValue<std::atomic<uint64_t>> loads;
  std::vector<Child> readers;
  for (uint64_t seed = 0; seed < 2; ++seed) {
    readers.emplace_back([&, seed] {
      const auto store = open("Disk", kCapacity, /*read_only=*/true);
      std::mt19937_64 random(seed);
      while (!*stop) {
        const uint64_t last = *done;
        const uint64_t near = last > 40 ? last - 40 : 0;
        if (!right_or_missing(*store, make_keys(near + random() % 40, 4))) return 1;
        *loads += 4;
      }
      return 0;
    });
  }
  std::mt19937_64 random(5);
  for (int round = 0; round < kills(12); ++round) {
    const uint64_t first = *done;
    Child writer([&] {
      const auto store = open("Disk", kCapacity);
      for (uint64_t i = first; store; i += 2) {
        if (!dump_blocks(*store, make_keys(i, 2)).ok()) break;
        *done = i + 2;
      }
      return 1;
    });
    while (*done < first + 10) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 10000));
    ASSERT_TRUE(writer.kill()) << "round " << round << ": the writer ended by itself";
  }
  *stop = true;
  for (Child& reader : readers) EXPECT_EQ(reader.wait(), 0);
  EXPECT_GT(*loads, 0u);
  const auto store = open("Disk", kCapacity);
  EXPECT_EQ(count_present(*store, make_keys(*done - 4, 4)), 4u) << "what was done is there";
}

// The process that collects in a Posix store now, 0 when none does.
pid_t collector_of(const std::string& root) {
  std::ifstream lease(root + "/.collector");
  std::string host;
  pid_t pid = 0;
  lease >> host >> pid;
  return pid;
}

size_t count_blocks(const std::string& root) {
  size_t count = 0;
  std::error_code gone;  // files leave while they are counted
  for (fs::recursive_directory_iterator at(root, gone), end; at != end; at.increment(gone)) {
    count += at->path().filename().string().size() == 32;
  }
  return count;
}

TEST_F(DirectoryShareTest, WhenTheCollectorIsKilledAnotherWriterCollects) {
  constexpr int64_t kCapacity = 600;
  SharedValue<std::atomic<uint64_t>> next;
  const auto write = [&] {
    const auto store = open("Posix", kCapacity);
    while (store) {
      const uint64_t first = next->fetch_add(8);
      if (!dump_blocks(*store, make_keys(first, 8)).ok()) return 1;
      if (!right_or_missing(*store, make_keys(first, 2))) return 2;
    }
    return 3;
  };
  std::vector<Child> writers;
  for (int i = 0; i < 3; ++i) writers.emplace_back(write);
  const std::string root = folder_ + "/store";
  for (int round = 0; round < kills(3); ++round) {
    const auto limit = std::chrono::steady_clock::now() + kPatience;
    bool killed = false;
    while (!killed && std::chrono::steady_clock::now() < limit) {
      const pid_t pid = collector_of(root);
      for (Child& writer : writers) {
        if (pid <= 0 || writer.pid() != pid) continue;
        killed = writer.kill();
        ASSERT_TRUE(killed) << "round " << round << ": a writer ended by itself";
        writer = Child(write);
        break;
      }
    }
    ASSERT_TRUE(killed) << "round " << round << ": nobody collects";
  }
  for (Child& writer : writers) EXPECT_TRUE(writer.kill());
  // Whoever opens it next ends what the dead ones have begun.
  const auto store = open("Posix", kCapacity);
  for (int i = 0; i < 1000 && count_blocks(root) > kCapacity * 9 / 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_LE(count_blocks(root), static_cast<size_t>(kCapacity * 9 / 10));
  EXPECT_GT(count_blocks(root), 0u);
  EXPECT_TRUE(right_or_missing(*store, make_keys(*next - 300, 300)));
}

}  // namespace
}  // namespace ucm::test
