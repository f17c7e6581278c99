// SPDX-License-Identifier: Apache-2.0
// What a page store keeps and what it does not let in: pins, capacity marks and admission.
#include "page_fixture.h"

namespace ucm {
namespace {

using test::count_pages;
using test::dump_pages;
using test::load_pages;
using test::make_keys;
using test::open_pages;

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
