// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "page_fixture.h"

namespace ucm {
namespace {

using test::count_pages;
using test::dump_pages;
using test::load_pages;
using test::make_key;
using test::make_keys;
using test::open_pages;
using test::PageRows;
using test::RowCollector;

class PageStoreTest : public test::PageTest, public ::testing::WithParamInterface<bool> {
 protected:
  PageStoreOptions options(uint64_t slots, uint64_t slot_bytes = 8192) const {
    PageStoreOptions options = PageTest::options(slots, slot_bytes);
    options.use_io_uring = GetParam();
    return options;
  }
};

INSTANTIATE_TEST_SUITE_P(Engines, PageStoreTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "uring" : "threads"; });

TEST_P(PageStoreTest, gives_back_what_was_dumped) {
  const auto store = open_pages(options(64));
  const auto keys = make_keys(0, 40);
  for (const Status& status : dump_pages(*store, keys)) EXPECT_TRUE(status.ok());
  EXPECT_EQ(count_pages(*store, keys), 40u);
  const auto loaded = load_pages(*store, keys);
  EXPECT_EQ(loaded.right, 40u);
  EXPECT_EQ(store->stats().blocks, 40u);
  EXPECT_EQ(store->stats().used_bytes, 40u * 8192);
}

TEST_P(PageStoreTest, says_not_found_for_what_was_never_dumped) {
  const auto store = open_pages(options(8));
  const auto loaded = load_pages(*store, make_keys(0, 3));
  for (const Status& status : loaded.statuses) EXPECT_EQ(status.code(), Code::not_found);
}

TEST_P(PageStoreTest, takes_payloads_shorter_than_a_slot_at_any_address) {
  const auto store = open_pages(options(16));
  for (const uint32_t bytes : {1u, 511u, 4095u, 4097u, 8191u}) {
    std::vector<std::byte> memory(bytes + 1);
    std::memset(memory.data(), 0x5A, memory.size());
    const PageRow row{make_key(bytes), memory.data() + 1, bytes, bytes, 0};
    RowCollector dumped(1);
    store->dump({&row, 1}, dumped.done(), nullptr);
    ASSERT_TRUE(dumped.wait());
    ASSERT_TRUE(dumped[0].ok()) << dumped[0].to_string();
    std::vector<std::byte> back(bytes + 3, std::byte{0x11});
    const PageRow place{row.key, back.data() + 1, bytes, bytes, 0};
    RowCollector loaded(1);
    store->load({&place, 1}, loaded.done(), nullptr);
    ASSERT_TRUE(loaded.wait());
    ASSERT_TRUE(loaded[0].ok()) << loaded[0].to_string();
    EXPECT_EQ(std::memcmp(back.data() + 1, memory.data() + 1, bytes), 0);
    EXPECT_EQ(back[0], std::byte{0x11}) << "nothing before the place may change";
    EXPECT_EQ(back[bytes + 1], std::byte{0x11}) << "nothing behind the place may change";
  }
}

TEST_P(PageStoreTest, refuses_rows_no_slot_can_hold) {
  const auto store = open_pages(options(8));
  std::vector<std::byte> memory(16384);
  const std::vector<PageRow> rows = {{make_key(1), memory.data(), 8193, 16384, 0},
                                     {make_key(2), memory.data(), 0, 16384, 1},
                                     {make_key(3), nullptr, 100, 100, 2}};
  RowCollector dumped(3);
  store->dump(rows, dumped.done(), nullptr);
  ASSERT_TRUE(dumped.wait());
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(dumped[i].code(), Code::invalid_argument);
}

TEST_P(PageStoreTest, a_second_dump_of_a_key_is_done_with_the_first) {
  const auto store = open_pages(options(8));
  const std::vector<BlockKey> keys(20, make_key(7));
  for (const Status& status : dump_pages(*store, keys)) EXPECT_TRUE(status.ok());
  EXPECT_EQ(store->stats().blocks, 1u);
  EXPECT_EQ(load_pages(*store, {make_key(7)}).right, 1u);
}

TEST_P(PageStoreTest, a_batch_larger_than_the_store_flows_through_it) {
  const auto store = open_pages(options(8));
  const auto keys = make_keys(0, 100);
  for (const Status& status : dump_pages(*store, keys))
    EXPECT_TRUE(status.ok()) << status.to_string();
  const auto loaded = load_pages(*store, keys);
  EXPECT_EQ(loaded.wrong, 0u);
  EXPECT_GT(loaded.right, 0u);
  EXPECT_LE(loaded.right, 8u);
  EXPECT_GE(store->stats().evicted, 92u);
}

TEST_P(PageStoreTest, the_least_recently_used_block_leaves_first) {
  auto wanted = options(20);
  wanted.eviction_high = wanted.eviction_low = 1.0;
  const auto store = open_pages(wanted);
  for (uint64_t i = 0; i < 20; ++i) dump_pages(*store, {make_key(i)});
  EXPECT_EQ(load_pages(*store, {make_key(0)}).right, 1u);
  store->touch(std::vector<BlockKey>{make_key(1)});
  dump_pages(*store, {make_key(100)});
  dump_pages(*store, {make_key(101)});
  EXPECT_EQ(count_pages(*store, {make_key(0), make_key(1)}), 2u);
  EXPECT_EQ(count_pages(*store, {make_key(2), make_key(3)}), 0u);
}

TEST_P(PageStoreTest, the_order_of_use_survives_a_reopen) {
  auto wanted = options(20);
  wanted.eviction_high = wanted.eviction_low = 1.0;
  {
    const auto store = open_pages(wanted);
    for (uint64_t i = 0; i < 20; ++i) dump_pages(*store, {make_key(i)});
  }
  const auto store = open_pages(wanted);
  dump_pages(*store, {make_key(100), make_key(101)});
  EXPECT_EQ(count_pages(*store, make_keys(0, 2)), 0u);
  EXPECT_EQ(count_pages(*store, make_keys(2, 18)), 18u);
}

TEST_P(PageStoreTest, the_tail_of_a_batch_that_was_loaded_leaves_before_its_head) {
  auto wanted = options(20);
  wanted.eviction_policy = "lru";
  wanted.eviction_high = wanted.eviction_low = 1.0;
  const auto store = open_pages(wanted);
  for (uint64_t i = 0; i < 20; ++i) dump_pages(*store, {make_key(i)});
  EXPECT_EQ(load_pages(*store, make_keys(0, 20)).right, 20u);
  dump_pages(*store, make_keys(100, 3));
  EXPECT_EQ(count_pages(*store, make_keys(0, 17)), 17u);
  EXPECT_EQ(count_pages(*store, make_keys(17, 3)), 0u);
}

TEST_P(PageStoreTest, the_tail_of_a_chain_in_several_batches_leaves_first_once_it_is_renewed) {
  auto wanted = options(20);
  wanted.eviction_policy = "lru";
  wanted.eviction_high = wanted.eviction_low = 1.0;
  const auto store = open_pages(wanted);
  for (uint64_t i = 0; i < 20; i += 5) dump_pages(*store, make_keys(i, 5));
  store->renew(make_keys(0, 25));
  dump_pages(*store, make_keys(100, 7));
  EXPECT_EQ(count_pages(*store, make_keys(0, 13)), 13u);
  EXPECT_EQ(count_pages(*store, make_keys(13, 7)), 0u);
}

TEST_P(PageStoreTest, blocks_that_were_loaded_count_as_used_after_a_reopen) {
  auto wanted = options(20);
  wanted.eviction_high = wanted.eviction_low = 1.0;
  {
    const auto store = open_pages(wanted);
    dump_pages(*store, make_keys(0, 20));
    // Uses are told apart by the quarter of a second.
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    EXPECT_EQ(load_pages(*store, make_keys(0, 10)).right, 10u);
  }
  const auto store = open_pages(wanted);
  dump_pages(*store, make_keys(100, 10));
  EXPECT_EQ(count_pages(*store, make_keys(0, 10)), 10u);
}

TEST_P(PageStoreTest, keys_that_look_alike_in_the_table_are_told_apart) {
  // The table keeps a tag made from the low bits: these have equal ones.
  const auto alike = [](uint64_t first) {
    std::vector<BlockKey> keys;
    for (uint64_t i = first; i < first + 60; ++i) keys.push_back({i << 32, 0});
    return keys;
  };
  const auto store = open_pages(options(64));
  dump_pages(*store, alike(1));
  EXPECT_EQ(count_pages(*store, alike(1)), 60u);
  EXPECT_EQ(load_pages(*store, alike(1)).right, 60u);
  EXPECT_EQ(count_pages(*store, alike(1000)), 0u);
}

TEST_P(PageStoreTest, blocks_are_there_after_a_reopen) {
  const auto keys = make_keys(0, 30);
  {
    dump_pages(*open_pages(options(64)), keys);
  }
  const auto store = open_pages(options(64));
  EXPECT_EQ(store->stats().blocks, 30u);
  EXPECT_EQ(load_pages(*store, keys).right, 30u);
}

TEST_P(PageStoreTest, a_capacity_may_grow_and_shrink_between_opens) {
  const auto keys = make_keys(0, 60);
  {
    dump_pages(*open_pages(options(64)), keys);
  }
  {
    const auto store = open_pages(options(200));
    EXPECT_EQ(load_pages(*store, keys).right, 60u);
    dump_pages(*store, make_keys(1000, 100));
    EXPECT_EQ(store->stats().blocks, 160u);
  }
  const auto store = open_pages(options(20));
  const auto loaded = load_pages(*store, keys);
  EXPECT_EQ(loaded.wrong, 0u);
  EXPECT_LE(store->stats().blocks, 20u);
  EXPECT_GT(store->stats().blocks, 0u);
  for (const Status& status : dump_pages(*store, make_keys(5000, 50))) EXPECT_TRUE(status.ok());
}

TEST_P(PageStoreTest, removed_blocks_are_gone_also_after_a_reopen) {
  const auto keys = make_keys(0, 10);
  {
    const auto store = open_pages(options(16));
    dump_pages(*store, keys);
    EXPECT_TRUE(store->remove(std::vector<BlockKey>{keys[3], make_key(999)}).ok());
    EXPECT_EQ(count_pages(*store, keys), 9u);
  }
  const auto store = open_pages(options(16));
  EXPECT_EQ(count_pages(*store, {keys[3]}), 0u);
  EXPECT_EQ(load_pages(*store, keys).right, 9u);
}

TEST_P(PageStoreTest, another_layout_is_a_miss_and_makes_room_for_the_right_one) {
  auto wanted = options(16);
  wanted.layout_id = 1;
  {
    dump_pages(*open_pages(wanted), {make_key(1), make_key(2)});
  }
  wanted.layout_id = 2;
  std::atomic<int> drops{0};
  wanted.on_drop = [&](std::string_view cause) { drops += cause == "layout"; };
  const auto store = open_pages(wanted);
  EXPECT_EQ(count_pages(*store, {make_key(1)}), 0u);
  EXPECT_EQ(load_pages(*store, {make_key(1)}).statuses[0].code(), Code::not_found);
  EXPECT_EQ(drops, 1);
  dump_pages(*store, {make_key(2)});
  EXPECT_EQ(load_pages(*store, {make_key(2)}).right, 1u);
  EXPECT_EQ(drops, 2);
}

TEST_P(PageStoreTest, eviction_in_the_background_keeps_slots_free) {
  auto wanted = options(100);
  wanted.eviction_high = 0.8;
  wanted.eviction_low = 0.5;
  const auto store = open_pages(wanted);
  dump_pages(*store, make_keys(0, 100));
  for (int i = 0; i < 200 && store->stats().blocks > 50; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(store->stats().blocks, 50u);
}

TEST_P(PageStoreTest, rows_of_a_cancelled_task_end_as_cancelled) {
  const auto store = open_pages(options(8));
  const TaskPtr task = Task::make(1);
  task->cancel();
  const PageRows memory({make_key(1)}, 8192, true);
  RowCollector rows(1);
  store->dump(memory.rows(), rows.done(), task);
  ASSERT_TRUE(rows.wait());
  EXPECT_EQ(rows[0].code(), Code::cancelled);
  EXPECT_EQ(count_pages(*store, {make_key(1)}), 0u);
}

TEST_P(PageStoreTest, answers_unavailable_after_close) {
  const auto store = open_pages(options(8));
  dump_pages(*store, {make_key(1)});
  EXPECT_TRUE(store->close(test::kPatience));
  EXPECT_TRUE(store->close(test::kPatience));
  EXPECT_EQ(dump_pages(*store, {make_key(2)})[0].code(), Code::unavailable);
  EXPECT_EQ(load_pages(*store, {make_key(1)}).statuses[0].code(), Code::unavailable);
  EXPECT_EQ(store->remove(std::vector<BlockKey>{make_key(1)}).code(), Code::unavailable);
  EXPECT_EQ(count_pages(*store, {make_key(1)}), 0u);
}

TEST_P(PageStoreTest, a_second_writer_is_told_who_holds_the_store) {
  const auto store = open_pages(options(8));
  const auto second = PageStore::open(options(8));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::unavailable);
  EXPECT_NE(second.status().message().find(std::to_string(::getpid())), std::string::npos)
      << second.status().message();
}

TEST_P(PageStoreTest, a_closed_store_can_be_opened_by_another_writer) {
  const auto first = open_pages(options(8));
  first->close(test::kPatience);
  EXPECT_TRUE(PageStore::open(options(8)).ok());
}

TEST_P(PageStoreTest, strict_and_group_durability_store_the_same_blocks) {
  for (const Durability durability : {Durability::group, Durability::strict}) {
    auto wanted = options(64);
    wanted.durability = durability;
    const auto store = open_pages(wanted);
    const auto keys = make_keys(100 * static_cast<uint64_t>(durability), 30);
    for (const Status& status : dump_pages(*store, keys)) EXPECT_TRUE(status.ok());
    EXPECT_EQ(load_pages(*store, keys).right, 30u);
  }
}

TEST_P(PageStoreTest, behaves_like_a_map_over_random_operations) {
  std::mt19937_64 random(20261120);
  auto wanted = options(1000, 4096);
  auto store = open_pages(wanted);
  std::map<uint64_t, bool> model;  // more slots than keys: nothing is ever evicted
  for (int step = 0; step < 1500; ++step) {
    const uint64_t number = random() % 300;
    const BlockKey key = make_key(number);
    switch (random() % 10) {
      case 0:
        ASSERT_TRUE(store->remove(std::vector<BlockKey>{key}).ok());
        model.erase(number);
        break;
      case 1:
      case 2:
      case 3:
      case 4:
        ASSERT_TRUE(dump_pages(*store, {key}, 4096)[0].ok());
        model[number] = true;
        break;
      case 5:
        if (random() % 10 == 0) {
          store.reset();
          store = open_pages(wanted);
        }
        break;
      default: {
        ASSERT_EQ(count_pages(*store, {key}), model.count(number)) << "step " << step;
        const auto loaded = load_pages(*store, {key}, 4096);
        ASSERT_EQ(loaded.right, model.count(number)) << "step " << step;
        ASSERT_EQ(loaded.wrong, 0u);
      }
    }
  }
  EXPECT_EQ(store->stats().blocks, model.size());
}

TEST_P(PageStoreTest, many_threads_dump_load_remove_and_evict) {
  auto wanted = options(64, 4096);
  const auto store = open_pages(wanted);
  std::atomic<size_t> wrong{0};
  std::atomic<size_t> right{0};
  std::atomic<size_t> errors{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 12; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      for (int step = 0; step < 60; ++step) {
        const auto keys = make_keys(random() % 150, 1 + random() % 12);
        const uint64_t what = random() % 8;
        if (what == 0) {
          if (!store->remove(keys).ok()) ++errors;
        } else if (what < 4) {
          for (const Status& status : dump_pages(*store, keys, 4096)) errors += !status.ok();
        } else {
          const auto loaded = load_pages(*store, keys, 4096);
          wrong += loaded.wrong;
          right += loaded.right;
          for (const Status& status : loaded.statuses) {
            errors += !status.ok() && status.code() != Code::not_found;
          }
        }
        count_pages(*store, keys);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_EQ(errors, 0u);
  EXPECT_GT(right, 0u);
  EXPECT_LE(store->stats().blocks, 64u);
}

TEST_P(PageStoreTest, closing_in_the_middle_of_transfers_ends_every_row) {
  for (int round = 0; round < 5; ++round) {
    const auto store = open_pages(options(32));
    const PageRows memory(make_keys(0, 200), 8192, true);
    RowCollector rows(200);
    store->dump(memory.rows(), rows.done(), nullptr);
    store->close(test::kPatience);
    EXPECT_TRUE(rows.wait());
  }
}

class PageOptionsTest : public test::PageTest {};

TEST_F(PageOptionsTest, options_that_make_no_sense_are_refused) {
  auto wrong = options(8);
  wrong.slot_bytes = 5000;
  EXPECT_EQ(PageStore::open(wrong).status().code(), Code::invalid_argument);
  wrong = options(8);
  wrong.eviction_low = 0.99;
  EXPECT_EQ(PageStore::open(wrong).status().code(), Code::invalid_argument);
  wrong = options(8);
  wrong.eviction_policy = "fifo";
  EXPECT_EQ(PageStore::open(wrong).status().code(), Code::invalid_argument);
  wrong = options(8);
  wrong.capacity_bytes = 100;
  EXPECT_EQ(PageStore::open(wrong).status().code(), Code::invalid_argument);
}

TEST_F(PageOptionsTest, a_store_of_another_slot_size_is_refused) {
  {
    open_pages(options(8, 8192));
  }
  const auto other = PageStore::open(options(8, 4096));
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.status().code(), Code::invalid_argument);
}

TEST_F(PageOptionsTest, a_path_that_is_a_file_is_refused) {
  {
    std::ofstream(path()) << "something";
  }
  EXPECT_EQ(PageStore::open(options(8)).status().code(), Code::invalid_argument);
}

TEST_F(PageOptionsTest, without_a_capacity_most_of_the_free_space_is_used) {
  auto wanted = options(8);
  wanted.capacity_bytes = 0;
  wanted.slot_bytes = 1 << 20;
  wanted.segment_bytes = 4 << 20;
  const auto store = open_pages(wanted);
  const auto space = std::filesystem::space(path());
  EXPECT_GT(store->stats().capacity_bytes, space.available / 2);
  EXPECT_LE(store->stats().capacity_bytes, space.available);
}

TEST_F(PageOptionsTest, folders_and_files_have_the_wanted_modes) {
  auto wanted = options(8);
  wanted.dir_mode = 0750;
  wanted.file_mode = 0640;
  const auto before = ::umask(0);
  dump_pages(*open_pages(wanted), {make_key(1)});
  ::umask(before);
  namespace fs = std::filesystem;
  EXPECT_EQ(fs::status(path()).permissions(), static_cast<fs::perms>(0750));
  for (const auto& entry : fs::directory_iterator(path())) {
    EXPECT_EQ(entry.status().permissions(), static_cast<fs::perms>(0640)) << entry.path();
  }
}

}  // namespace
}  // namespace ucm
