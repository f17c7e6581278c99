// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "base/checksum.h"
#include "io/faults.h"
#include "io/lock_file.h"
#include "store/stage.h"
#include "test_blocks.h"

namespace ucm {

extern const StageEntry disk_stage_entry;

namespace {

namespace fs = std::filesystem;
using test::count_present;
using test::dump_blocks;
using test::load_blocks;
using test::make_key;
using test::make_keys;

class DiskStageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* root = std::getenv("TMPDIR");
    folder_ = fs::path(root ? root : "/tmp") /
              (std::string("ucm-disk-") +
               ::testing::UnitTest::GetInstance()->current_test_info()->name() + "-" +
               std::to_string(::getpid()));
    fs::remove_all(folder_);
    options_["storage_backends"] = path();
    options_["capacity_bytes"] = int64_t{64} * 8192;
    options_["segment_bytes"] = int64_t{16} * 8192;
    options_["timeout_s"] = 20.0;
  }
  void TearDown() override {
    io::set_faults({});
    fs::remove_all(folder_);
  }
  std::string path(const std::string& below = "") const {
    return below.empty() ? folder_.string() : (folder_ / below).string();
  }

  // One block of 8000 bytes: its slots are 8192 bytes.
  static BlockLayout layout(uint64_t id = 1, size_t bytes = 8000) {
    return BlockLayout::make({bytes}, 1, id).value();
  }
  Result<StorePtr> try_open(const BlockLayout& layout, bool read_only = false) {
    metrics_ = std::make_shared<base::MetricRegistry>();
    StageContext context;
    context.options = &options_;
    context.layout = layout;
    context.read_only = read_only;
    context.metrics = metrics_;
    return disk_stage_entry.make(std::move(context));
  }
  StorePtr open(const BlockLayout& layout = DiskStageTest::layout(), bool read_only = false) {
    auto stage = try_open(layout, read_only);
    EXPECT_TRUE(stage.ok()) << stage.status().to_string();
    return stage.ok() ? std::move(stage).value() : nullptr;
  }
  // The sum over all labels.
  double metric(const std::string& name) const {
    double sum = 0;
    for (const MetricSample& sample : metrics_->samples()) {
      if (sample.name == name) sum += sample.value;
    }
    return sum;
  }
  static bool comes_true(const std::function<bool()>& condition) {
    for (int i = 0; i < 400 && !condition(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return condition();
  }

  fs::path folder_;
  Options options_;
  std::shared_ptr<base::MetricRegistry> metrics_;
};

TEST_F(DiskStageTest, believes_a_digest_that_comes_with_a_dump_and_checks_it_when_it_loads) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 2);
  std::vector<std::byte> memory(3 * 8192);
  const auto start = align_up(reinterpret_cast<uintptr_t>(memory.data()));
  auto* block = reinterpret_cast<std::byte*>(start);
  std::fill_n(block, 8000, std::byte{5});
  const std::vector<uintptr_t> addresses = {start, start};
  std::vector<Digest> digests;
  for (const BlockKey& key : keys) {
    const auto seed = store->digest_seed(key);
    ASSERT_TRUE(seed.has_value());
    digests.push_back(base::digest_128(block, 8000, *seed));
  }
  ++digests[1].low;
  Batch batch;
  batch.keys = keys;
  batch.addresses = addresses;
  batch.digests = digests;
  ASSERT_TRUE(store->dump(batch)->wait(std::chrono::seconds(20)).ok());
  EXPECT_EQ(count_present(*store, keys), 2u);
  batch.digests = {};
  const TaskPtr load = store->load(batch);
  EXPECT_EQ(load->wait(std::chrono::seconds(20)).code(), Code::corruption);
  EXPECT_EQ(load->failed_rows(), std::vector<uint32_t>{1});
}

TEST_F(DiskStageTest, a_block_of_another_length_is_not_found) {
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  // The same slots and the same layout id.
  const auto stage = open(layout(1, 8100));
  EXPECT_EQ(count_present(*stage, keys), 0u);
  EXPECT_EQ(load_blocks(*stage, keys).status().code(), Code::not_found);
}

TEST_F(DiskStageTest, a_strict_dump_of_a_block_that_is_there_waits_until_it_is_on_the_disk) {
  options_["durability"] = std::string("strict");
  const auto stage = open();
  const auto keys = make_keys(0, 1);
  test::Buffers buffers(stage->layout(), 1);
  buffers.fill(0, keys[0], 0);
  io::set_faults(
      {{.operation = io::Operation::sync, .path = path() + "/8192/index", .hang = true}});
  const TaskPtr first = stage->dump(make_batch(keys, {}, buffers));
  while (count_present(*stage, keys) == 0) std::this_thread::yield();
  const TaskPtr second = stage->dump(make_batch(keys, {}, buffers));
  EXPECT_FALSE(second->done());
  io::set_faults({});
  EXPECT_TRUE(first->wait(test::kPatience).ok());
  EXPECT_TRUE(second->wait(test::kPatience).ok());
}

TEST_F(DiskStageTest, its_capacity_counts_for_each_backend) {
  options_["storage_backends"] = std::vector<std::string>{path("a"), path("b")};
  const auto stage = open();
  EXPECT_EQ(metric("ucm_capacity_bytes"), 2 * 64 * 8192);
}

TEST_F(DiskStageTest, stores_blocks_that_survive_a_reopen) {
  const auto keys = make_keys(0, 20);
  {
    const auto stage = open();
    ASSERT_TRUE(dump_blocks(*stage, keys).ok());
    EXPECT_EQ(load_blocks(*stage, keys).value(), 0u);
  }
  const auto stage = open();
  EXPECT_EQ(count_present(*stage, keys), 20u);
  EXPECT_EQ(load_blocks(*stage, keys).value(), 0u);
  EXPECT_TRUE(fs::exists(path("8192/FORMAT.json")));
}

TEST_F(DiskStageTest, counts_the_leading_blocks_that_are_present) {
  const auto stage = open();
  auto keys = make_keys(0, 10);
  ASSERT_TRUE(dump_blocks(*stage, keys).ok());
  EXPECT_EQ(stage->lookup_prefix(keys).value(), 10u);
  keys.insert(keys.begin() + 4, make_key(77));
  EXPECT_EQ(stage->lookup_prefix(keys).value(), 4u);
  EXPECT_EQ(stage->lookup_prefix(make_keys(50, 3)).value(), 0u);
  EXPECT_EQ(stage->lookup_prefix({}).value(), 0u);
}

TEST_F(DiskStageTest, absent_rows_fail_alone) {
  const auto stage = open();
  ASSERT_TRUE(dump_blocks(*stage, make_keys(0, 2)).ok());
  const auto keys = make_keys(0, 4);
  test::Buffers buffers(stage->layout(), 4);
  std::set<uint32_t> reported;
  std::mutex mutex;
  Batch batch = make_batch(keys, {}, buffers);
  batch.on_row = [&](uint32_t row, const Status&) {
    const std::lock_guard lock(mutex);
    reported.insert(row);
  };
  const TaskPtr task = stage->load(batch);
  EXPECT_EQ(task->wait(test::kPatience).code(), Code::not_found);
  EXPECT_EQ(task->failed_rows(), (std::vector<uint32_t>{2, 3}));
  EXPECT_EQ(reported.size(), 4u);
  EXPECT_EQ(buffers.wrong_bytes(0, keys[0], 0) + buffers.wrong_bytes(1, keys[1], 0), 0u);
}

TEST_F(DiskStageTest, reports_what_really_happened_in_its_metrics) {
  const auto stage = open();
  const auto keys = make_keys(0, 10);
  ASSERT_TRUE(dump_blocks(*stage, keys).ok());
  EXPECT_EQ(metric("ucm_transfer_blocks_total"), 10);
  EXPECT_EQ(metric("ucm_transfer_bytes_total"), 80000);
  ASSERT_TRUE(dump_blocks(*stage, keys).ok());
  EXPECT_EQ(metric("ucm_transfer_blocks_total"), 10) << "what is there already is not moved";
  ASSERT_TRUE(load_blocks(*stage, keys).ok());
  EXPECT_EQ(metric("ucm_transfer_blocks_total"), 20);
  EXPECT_FALSE(load_blocks(*stage, {make_key(99)}).ok());
  EXPECT_EQ(metric("ucm_failures_total"), 1);
  count_present(*stage, make_keys(5, 10));
  EXPECT_EQ(metric("ucm_lookup_blocks_total"), 10);
  EXPECT_EQ(metric("ucm_lookup_hit_blocks_total"), 5);
  EXPECT_EQ(metric("ucm_blocks"), 10);
  EXPECT_EQ(metric("ucm_used_bytes"), 10 * 8192);
  EXPECT_EQ(metric("ucm_capacity_bytes"), 64 * 8192);
  EXPECT_EQ(metric("ucm_queue_depth"), 0);
  ASSERT_TRUE(dump_blocks(*stage, make_keys(1000, 100)).ok());
  EXPECT_TRUE(
      comes_true([&] { return metric("ucm_blocks") + metric("ucm_evicted_blocks_total") == 110; }));
}

TEST_F(DiskStageTest, damage_is_a_counted_miss) {
  const auto keys = make_keys(0, 10);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  {
    std::fstream out(path("8192/seg-00000"), std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(2 * 8192 + 5);
    out << "damage";
  }
  const auto stage = open();
  EXPECT_EQ(load_blocks(*stage, keys).status().code(), Code::corruption);
  EXPECT_EQ(metric("ucm_dropped_blocks_total"), 1);
  EXPECT_EQ(count_present(*stage, keys), 9u);
}

TEST_F(DiskStageTest, another_layout_sees_nothing) {
  ASSERT_TRUE(dump_blocks(*open(), make_keys(0, 4)).ok());
  const auto stage = open(layout(2));
  EXPECT_EQ(count_present(*stage, make_keys(0, 4)), 0u);
  ASSERT_TRUE(dump_blocks(*stage, make_keys(0, 4)).ok());
  EXPECT_EQ(load_blocks(*stage, make_keys(0, 4)).value(), 0u);
}

TEST_F(DiskStageTest, without_a_layout_it_answers_lookups_for_all_block_sizes) {
  options_["capacity_bytes"] = int64_t{1} << 20;
  ASSERT_TRUE(dump_blocks(*open(layout(1, 8000)), make_keys(0, 4)).ok());
  ASSERT_TRUE(dump_blocks(*open(layout(1, 4096)), make_keys(10, 4)).ok());
  const auto stage = open(BlockLayout());
  EXPECT_EQ(count_present(*stage, make_keys(0, 20)), 8u);
  EXPECT_EQ(stage->lookup_prefix(make_keys(0, 20)).value(), 4u);
  const TaskPtr task = stage->load({});
  EXPECT_EQ(task->wait(test::kPatience).code(), Code::invalid_argument);
}

TEST_F(DiskStageTest, a_reader_sees_a_store_that_is_made_later) {
  const auto reader = open(BlockLayout());
  EXPECT_FALSE(fs::exists(path())) << "a reader makes nothing";
  EXPECT_EQ(count_present(*reader, make_keys(0, 4)), 0u);
  const auto writer = open();
  ASSERT_TRUE(dump_blocks(*writer, make_keys(0, 4)).ok());
  EXPECT_TRUE(comes_true([&] { return count_present(*reader, make_keys(0, 4)) == 4; }));
}

TEST_F(DiskStageTest, a_read_only_stage_loads_and_refuses_to_dump) {
  const auto writer = open();
  ASSERT_TRUE(dump_blocks(*writer, make_keys(0, 4)).ok());
  const auto reader = open(layout(), true);
  EXPECT_EQ(load_blocks(*reader, make_keys(0, 4)).value(), 0u);
  EXPECT_EQ(dump_blocks(*reader, make_keys(9, 1)).code(), Code::unsupported);
  EXPECT_EQ(reader->remove(make_keys(0, 1)).code(), Code::unsupported);
}

TEST_F(DiskStageTest, spreads_blocks_over_its_backends_and_finds_them_whatever_the_strategy) {
  options_["storage_backends"] = std::vector<std::string>{path("a"), path("b/"), path("c")};
  const auto keys = make_keys(0, 30);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  for (const char* backend : {"a", "b", "c"}) {
    int blocks = 0;
    EXPECT_TRUE(disk_stage_entry
                    .inspect(path(backend), false, [&](const BlockRecord&) { return ++blocks > 0; })
                    .ok());
    EXPECT_GT(blocks, 0);
    EXPECT_LT(blocks, 30);
  }
  options_["path_strategy"] = std::string("round_robin");
  const auto stage = open();
  EXPECT_EQ(count_present(*stage, keys), 30u);
  ASSERT_TRUE(dump_blocks(*stage, make_keys(0, 40)).ok());
  EXPECT_EQ(load_blocks(*stage, make_keys(0, 40)).value(), 0u);
  EXPECT_EQ(metric("ucm_blocks"), 40) << "no block is stored twice";
  ASSERT_TRUE(stage->remove(keys).ok());
  EXPECT_EQ(count_present(*stage, make_keys(0, 40)), 10u);
}

TEST_F(DiskStageTest, stores_of_other_block_sizes_leave_when_the_space_is_needed) {
  options_["capacity_bytes"] = int64_t{1} << 20;
  options_["segment_bytes"] = int64_t{1} << 20;
  ASSERT_TRUE(dump_blocks(*open(layout(1, 4096)), make_keys(0, 4)).ok());
  ASSERT_TRUE(fs::exists(path("4096")));
  const auto stage = open(layout(1, 8000));
  EXPECT_FALSE(fs::exists(path("4096")));
  EXPECT_GE(metric("ucm_capacity_bytes"), double{1 << 20} / 2);
}

TEST_F(DiskStageTest, a_store_of_another_block_size_in_use_stays) {
  options_["capacity_bytes"] = int64_t{1} << 20;
  options_["segment_bytes"] = int64_t{1} << 19;
  const auto first = open(layout(1, 4096));
  ASSERT_TRUE(dump_blocks(*first, make_keys(0, 4)).ok());
  const auto second = open(layout(1, 8000));
  ASSERT_TRUE(second);
  EXPECT_EQ(load_blocks(*first, make_keys(0, 4)).value(), 0u);
  EXPECT_LT(metric("ucm_capacity_bytes"), double{1 << 20} * 0.51);
}

TEST_F(DiskStageTest, foreign_folders_with_a_number_as_their_name_are_left_alone) {
  fs::create_directories(path("12345"));
  {
    std::ofstream(path("12345/thesis.txt")) << std::string(100000, 'x');
  }
  const auto stage = open();
  EXPECT_TRUE(fs::exists(path("12345/thesis.txt")));
}

TEST_F(DiskStageTest, says_what_is_wrong_with_a_path) {
  {
    std::ofstream(path()) << "a file";
  }
  auto refused = try_open(layout());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::invalid_argument);
  EXPECT_NE(refused.status().message().find("is a file"), std::string::npos);
  fs::remove(path());
  options_.erase("storage_backends");
  EXPECT_EQ(try_open(layout()).status().code(), Code::invalid_argument);
  options_["storage_backends"] = std::vector<std::string>{path("a"), path("a/")};
  EXPECT_NE(try_open(layout()).status().message().find("twice"), std::string::npos);
}

TEST_F(DiskStageTest, says_what_to_do_about_a_path_it_may_not_write) {
  io::set_faults({{.operation = io::Operation::mkdir, .path = path(), .error = EACCES}});
  const auto refused = try_open(layout());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::io_error);
  EXPECT_NE(refused.status().message().find("write access"), std::string::npos)
      << refused.status().message();
}

TEST_F(DiskStageTest, a_second_writer_is_told_which_process_holds_the_store) {
  const auto first = open();
  const auto second = try_open(layout());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::unavailable);
  EXPECT_NE(second.status().message().find("process " + std::to_string(::getpid())),
            std::string::npos)
      << second.status().message();
}

TEST_F(DiskStageTest, wrong_option_values_name_the_option) {
  const std::vector<std::pair<std::string, OptionValue>> wrong = {
      {"verify", std::string("maybe")},
      {"durability", int64_t{3}},
      {"path_strategy", std::string("random")},
      {"io_depth", int64_t{0}},
      {"io_threads", int64_t{0}},
      {"timeout_s", -1.0},
      {"eviction_policy", std::string("fifo")},
      {"dir_mode", int64_t{07777}}};
  for (const auto& [key, value] : wrong) {
    const Options before = options_;
    options_[key] = value;
    const auto refused = try_open(layout());
    ASSERT_FALSE(refused.ok()) << key;
    EXPECT_EQ(refused.status().code(), Code::invalid_argument);
    EXPECT_NE(refused.status().message().find(key), std::string::npos)
        << refused.status().message();
    options_ = before;
  }
}

TEST_F(DiskStageTest, a_full_disk_fails_dumps_and_keeps_blocks) {
  const auto stage = open();
  ASSERT_TRUE(dump_blocks(*stage, make_keys(0, 4)).ok());
  io::set_faults({{.operation = io::Operation::write, .path = path(), .error = ENOSPC}});
  const Status full = dump_blocks(*stage, make_keys(10, 2));
  EXPECT_EQ(full.code(), Code::no_space);
  EXPECT_NE(full.message().find("free some space"), std::string::npos);
  EXPECT_EQ(load_blocks(*stage, make_keys(0, 4)).value(), 0u);
}

TEST_F(DiskStageTest, answers_unavailable_after_close) {
  const auto stage = open();
  ASSERT_TRUE(dump_blocks(*stage, make_keys(0, 1)).ok());
  stage->close();
  stage->close();
  std::vector<uint8_t> present(1);
  EXPECT_EQ(stage->lookup(make_keys(0, 1), present).code(), Code::unavailable);
  EXPECT_EQ(stage->lookup_prefix(make_keys(0, 1)).status().code(), Code::unavailable);
  EXPECT_EQ(dump_blocks(*stage, make_keys(0, 1)).code(), Code::unavailable);
  EXPECT_EQ(stage->remove(make_keys(0, 1)).code(), Code::unavailable);
}

TEST_F(DiskStageTest, inspecting_finds_every_block_and_no_store_is_not_found) {
  fs::create_directories(path());
  EXPECT_EQ(disk_stage_entry.inspect(path(), false, [](const BlockRecord&) { return true; }).code(),
            Code::not_found);
  options_["storage_backends"] = path("rank-0");
  ASSERT_TRUE(dump_blocks(*open(layout(42)), make_keys(0, 7)).ok());
  std::set<std::string> seen;
  for (const char* place : {"", "rank-0", "rank-0/8192"}) {
    seen.clear();
    EXPECT_TRUE(disk_stage_entry
                    .inspect(path(place), true,
                             [&](const BlockRecord& record) {
                               EXPECT_EQ(record.layout_id, 42u);
                               EXPECT_EQ(record.bytes, 8000u);
                               EXPECT_FALSE(record.damaged) << record.damage;
                               EXPECT_GT(record.written_ns, 1700000000ll * 1000000000);
                               seen.insert(record.key.hex());
                               return true;
                             })
                    .ok());
    EXPECT_EQ(seen.size(), 7u) << place;
  }
}

}  // namespace
}  // namespace ucm
