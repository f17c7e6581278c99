// SPDX-License-Identifier: Apache-2.0
// What a page store keeps and what it does not let in: pins, reads under way, capacity marks and
// admission.
#include <thread>

#include "page_fixture.h"

namespace ucm {
namespace {

using test::count_pages;
using test::dump_pages;
using test::load_pages;
using test::make_keys;
using test::open_pages;
using test::PageRows;
using test::RowCollector;

class PageKeepTest : public test::PageTest {};

size_t count_pinned(PageStore& store, const std::vector<BlockKey>& keys) {
  std::vector<uint8_t> pinned(keys.size());
  EXPECT_TRUE(store.pin(keys, pinned).ok());
  return static_cast<size_t>(std::count(pinned.begin(), pinned.end(), 1));
}

void dump_all(PageStore& store, const std::vector<BlockKey>& keys) {
  for (const Status& status : dump_pages(store, keys)) ASSERT_TRUE(status.ok());
}

TEST_F(PageKeepTest, a_pinned_block_is_never_evicted) {
  const auto store = open_pages(options(40));
  const auto pinned = make_keys(0, 10);
  dump_all(*store, pinned);
  EXPECT_EQ(count_pinned(*store, pinned), 10u);
  for (uint64_t i = 0; i < 20; ++i) dump_all(*store, make_keys(1000 + 20 * i, 20));
  EXPECT_EQ(count_pages(*store, pinned), 10u);
  EXPECT_EQ(load_pages(*store, pinned).right, 10u);
  ASSERT_TRUE(store->unpin(pinned).ok());
  for (uint64_t i = 0; i < 20; ++i) dump_all(*store, make_keys(5000 + 20 * i, 20));
  EXPECT_EQ(count_pages(*store, pinned), 0u);
}

TEST_F(PageKeepTest, pins_are_bounded_and_end_with_the_store) {
  auto bounded = options(40);
  bounded.pin_limit = 0.25;
  auto store = open_pages(bounded);
  dump_all(*store, make_keys(0, 30));
  EXPECT_EQ(count_pinned(*store, make_keys(0, 30)), 10u);
  EXPECT_EQ(count_pinned(*store, make_keys(900, 5)), 0u) << "they are not stored";
  ASSERT_TRUE(store->remove(make_keys(0, 4)).ok());
  EXPECT_EQ(count_pinned(*store, make_keys(20, 10)), 4u) << "a removed block is pinned no more";
  store->close(std::chrono::seconds(10));
  store = open_pages(bounded);
  EXPECT_EQ(count_pinned(*store, make_keys(20, 10)), 10u) << "no mark is left";
}

// A load of one block of a full store of four slots that has come to the disk and not back.
struct SlowRead {
  explicit SlowRead(const PageStoreOptions& four_slots) : store(open_pages(four_slots)) {
    dump_all(*store, make_keys(0, 4));
    io::set_faults({{.operation = io::Operation::read,
                     .path = four_slots.path + "/seg-",
                     .count = 1,
                     .hang = true}});
    store->load(memory.rows(), row.done(), nullptr);
    while (io::faults_taken() == 0) std::this_thread::yield();
  }
  // Whether it brought the right bytes.
  bool end() {
    io::set_faults({});
    return row.wait() && row[0].ok() && memory.right(0);
  }
  const std::vector<BlockKey> key = make_keys(0, 1);
  const PageRows memory{key, 8192, false};
  RowCollector row{1};
  const std::shared_ptr<PageStore> store;
};

PageStoreOptions four_slots_and_threads(PageStoreOptions options) {
  options.use_io_uring = false;  // there a hanging read would hold up the writes too
  options.io_threads = 4;
  return options;
}

TEST_F(PageKeepTest, a_block_is_not_evicted_while_it_is_read) {
  SlowRead read(four_slots_and_threads(options(4)));
  for (uint64_t i = 0; i < 4; ++i) dump_all(*read.store, make_keys(100 + 3 * i, 3));
  EXPECT_EQ(count_pages(*read.store, read.key), 1u);
  EXPECT_TRUE(read.end());
  for (uint64_t i = 0; i < 4; ++i) dump_all(*read.store, make_keys(200 + 3 * i, 3));
  EXPECT_EQ(count_pages(*read.store, read.key), 0u) << "afterwards it may leave";
}

TEST_F(PageKeepTest,
       the_slot_of_a_block_that_is_removed_while_it_is_read_serves_no_other_until_then) {
  SlowRead read(four_slots_and_threads(options(4)));
  ASSERT_TRUE(read.store->remove(read.key).ok());
  EXPECT_EQ(count_pages(*read.store, read.key), 0u);
  for (uint64_t i = 0; i < 4; ++i) dump_all(*read.store, make_keys(100 + 3 * i, 3));
  EXPECT_TRUE(read.end());
  const uint64_t evicted = read.store->stats().evicted;
  dump_all(*read.store, make_keys(200, 1));
  EXPECT_EQ(read.store->stats().evicted, evicted) << "it is free again";
  EXPECT_EQ(read.store->stats().blocks, 4u);
}

TEST_F(PageKeepTest, a_reader_can_not_pin) {
  const auto writer = open_pages(options(40));
  dump_all(*writer, make_keys(0, 5));
  auto reading = options(40);
  reading.read_only = true;
  const auto reader = open_pages(reading);
  std::vector<uint8_t> pinned(5);
  EXPECT_EQ(reader->pin(make_keys(0, 5), pinned).code(), Code::unsupported);
  EXPECT_EQ(reader->unpin(make_keys(0, 5)).code(), Code::unsupported);
}

TEST_F(PageKeepTest, with_second_use_a_block_is_stored_when_it_is_dumped_again) {
  auto choosy = options(40);
  choosy.second_use = true;
  size_t refused = 0;
  choosy.on_refuse = [&](size_t count) { refused += count; };
  const auto store = open_pages(choosy);
  dump_all(*store, make_keys(0, 10));
  EXPECT_EQ(count_pages(*store, make_keys(0, 10)), 0u);
  EXPECT_EQ(refused, 10u);
  dump_all(*store, make_keys(0, 5));
  EXPECT_EQ(count_pages(*store, make_keys(0, 10)), 5u);
  EXPECT_EQ(load_pages(*store, make_keys(0, 5)).right, 5u);
  EXPECT_EQ(refused, 10u);
}

TEST_F(PageKeepTest, eviction_begins_at_the_high_mark_and_ends_at_the_low_one) {
  auto marked = options(100);
  marked.eviction_high = 0.9;
  marked.eviction_low = 0.5;
  marked.eviction_policy = "lru";
  const auto store = open_pages(marked);
  dump_all(*store, make_keys(0, 90));
  store->touch(make_keys(0, 90));  // writes end in any order
  EXPECT_EQ(store->stats().evicted, 0u) << "up to the mark nothing leaves";
  dump_all(*store, make_keys(90, 1));
  for (int i = 0; i < 2000 && store->stats().blocks > 50; ++i) ::usleep(5000);
  EXPECT_EQ(store->stats().blocks, 50u);
  EXPECT_EQ(count_pages(*store, make_keys(41, 50)), 50u) << "the youngest stay";
  dump_all(*store, make_keys(200, 40));
  EXPECT_EQ(store->stats().evicted, 41u) << "between the marks nothing leaves";
}

}  // namespace
}  // namespace ucm
