// SPDX-License-Identifier: Apache-2.0
#include "host_pages/page_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <list>
#include <map>
#include <random>

namespace ucm::host_pages {
namespace {

constexpr int32_t kNone = HostPages::kNone;

BlockKey key_of(uint64_t number) { return {number * 0x9E3779B97F4A7C15ull + 1, ~number}; }

// What the index has to answer, in the plainest form: no buckets, no linked records.
class Model {
 public:
  explicit Model(int32_t pages) : pages_(pages) {
    for (int32_t i = 0; i < pages; ++i) idle_.push_back(i);
  }

  int32_t find(const BlockKey& key) const {
    for (size_t i = 0; i < pages_.size(); ++i) {
      if (pages_[i].state != 0 && pages_[i].key == key) return static_cast<int32_t>(i);
    }
    return kNone;
  }

  std::pair<int32_t, bool> allocate(const BlockKey& key) {
    int32_t page = find(key);
    if (page == kNone) {
      if (idle_.empty()) return {kNone, false};
      page = idle_.front();
      pages_[page] = {key, 1, 0};
    }
    refer(page);
    return {page, pages_[page].state == 2};
  }

  int32_t query(const BlockKey& key) {
    const int32_t page = find(key);
    if (page == kNone || pages_[page].state != 2) return kNone;
    refer(page);
    return page;
  }

  void ready(int32_t page) { pages_[page].state = 2; }
  void refer(int32_t page) {
    if (pages_[page].references++ == 0) idle_.remove(page);
  }
  void release(int32_t page) {
    if (pages_[page].references == 0 || --pages_[page].references != 0) return;
    if (pages_[page].state == 2) return idle_.push_back(page);
    pages_[page].state = 0;
    idle_.push_front(page);
  }
  int32_t references(int32_t page) const { return pages_[page].references; }
  int32_t state(int32_t page) const { return pages_[page].state; }

 private:
  struct Page {
    BlockKey key;
    int32_t state = 0;
    int32_t references = 0;
  };
  std::vector<Page> pages_;
  std::list<int32_t> idle_;
};

class PageTableTest : public ::testing::Test {
 protected:
  PageTable make(uint32_t pages, PageTable::Alive alive = [](uint32_t) { return true; }) {
    memory_.assign(PageTable::bytes(pages), std::byte{0});
    PageTable::prepare(memory_.data(), pages);
    return PageTable(memory_.data(), 0, std::move(alive));
  }
  std::vector<std::byte> memory_;
};

TEST_F(PageTableTest, a_page_is_found_only_once_it_is_filled) {
  PageTable table = make(4);
  const auto made = table.allocate(key_of(1));
  EXPECT_FALSE(made.ready);
  EXPECT_EQ(table.query(key_of(1)), kNone);
  EXPECT_FALSE(table.all_ready({{made.page}}));
  table.mark_ready({{made.page}}, /*release=*/true, /*offload=*/false);
  EXPECT_EQ(table.query(key_of(1)), made.page);
  const auto again = table.allocate(key_of(1));
  EXPECT_EQ(again.page, made.page);
  EXPECT_TRUE(again.ready);
}

TEST_F(PageTableTest, pages_in_use_are_never_evicted_and_the_oldest_idle_one_goes_first) {
  PageTable table = make(2);
  const int32_t first = table.allocate(key_of(1)).page;
  const int32_t second = table.allocate(key_of(2)).page;
  EXPECT_EQ(table.allocate(key_of(3)).page, kNone);
  table.mark_ready({{first, second}}, true, false);
  EXPECT_EQ(table.query(key_of(1)), first);
  table.release({{first}});
  EXPECT_EQ(table.allocate(key_of(3)).page, second);
  EXPECT_EQ(table.find(key_of(2)), kNone);
  EXPECT_EQ(table.find(key_of(1)), first);
}

TEST_F(PageTableTest, an_unfilled_page_without_references_is_forgotten_and_used_next) {
  PageTable table = make(3);
  const int32_t page = table.allocate(key_of(1)).page;
  table.release({{page}});
  EXPECT_EQ(table.find(key_of(1)), kNone);
  EXPECT_EQ(table.allocate(key_of(2)).page, page);
  EXPECT_EQ(table.stats().recycled, 1u);
}

TEST_F(PageTableTest, references_nobody_held_are_counted_and_change_nothing) {
  PageTable table = make(2);
  const int32_t page = table.allocate(key_of(1)).page;
  table.mark_ready({{page}}, true, false);
  table.release({{page, kNone, page}});
  EXPECT_EQ(table.stats().misused, 2u);
  EXPECT_EQ(table.query(key_of(1)), page);
}

TEST_F(PageTableTest, groups_for_the_next_level_keep_order_and_references_and_are_bounded) {
  PageTable table = make(8);
  std::vector<int32_t> pages;
  for (uint64_t i = 0; i < 8; ++i) pages.push_back(table.allocate(key_of(i)).page);
  table.mark_ready(pages, true, true);
  std::vector<int32_t> cut = {pages[2], pages[1], kNone, pages[3]};
  table.mark_ready(cut, false, true);
  EXPECT_EQ(table.stats().referenced, 8u);
  const auto groups = table.take_offloads();
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0], pages);
  EXPECT_EQ(groups[1], (std::vector<int32_t>{pages[2], pages[1]}));
  for (const auto& group : groups) table.release(group);
  EXPECT_EQ(table.stats().referenced, 0u);
  for (int i = 0; i < 100; ++i) table.mark_ready(pages, false, true);
  EXPECT_GT(table.stats().offload_dropped, 0u);
  for (const auto& group : table.take_offloads()) table.release(group);
  EXPECT_EQ(table.stats().referenced, 0u);
  EXPECT_EQ(table.stats().misused, 0u);
}

TEST_F(PageTableTest, what_a_dead_process_was_filling_is_neither_found_nor_used_again) {
  bool owner_lives = true;
  make(2);
  PageTable dead(memory_.data(), 1, [](uint32_t) { return true; });
  PageTable table(memory_.data(), 0, [&](uint32_t) { return owner_lives; });
  const int32_t page = dead.allocate(key_of(1)).page;
  EXPECT_EQ(table.allocate(key_of(1)).page, page);
  owner_lives = false;
  const auto other = table.allocate(key_of(1));
  EXPECT_NE(other.page, page);
  EXPECT_NE(other.page, kNone);
  table.release({{page}});
  EXPECT_EQ(table.allocate(key_of(2)).page, kNone);
  EXPECT_EQ(table.stats().lost, 1u);
}

TEST_F(PageTableTest, a_page_that_was_being_taken_when_its_process_died_is_free_again) {
  constexpr size_t kHeadBytes = 256;  // docs/formats-host-pages.md
  PageTable table = make(2);
  // The reference is counted before the page has its state.
  reinterpret_cast<PageRecord*>(memory_.data() + kHeadBytes)->references.store(1);
  table.repair();
  EXPECT_NE(table.allocate(key_of(1)).page, kNone);
  EXPECT_NE(table.allocate(key_of(2)).page, kNone);
}

TEST_F(PageTableTest, any_sequence_of_calls_answers_as_the_model_also_after_repairs) {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](uint32_t below) { return random() % below; };
    const auto pages = static_cast<int32_t>(1 + pick(12));
    PageTable table = make(static_cast<uint32_t>(pages));
    Model model(pages);
    std::vector<int32_t> held;
    std::deque<std::vector<int32_t>> queued;
    for (int step = 0; step < 1500; ++step) {
      const uint32_t action = pick(10);
      if (action < 3) {
        const BlockKey key = key_of(pick(24));
        const auto got = table.allocate(key);
        ASSERT_EQ(std::make_pair(got.page, got.ready), model.allocate(key));
        if (got.page != kNone) held.push_back(got.page);
      } else if (action < 5) {
        const BlockKey key = key_of(pick(24));
        const int32_t got = table.query(key);
        ASSERT_EQ(got, model.query(key));
        if (got != kNone) held.push_back(got);
      } else if (action < 8 && !held.empty()) {
        const size_t at = pick(static_cast<uint32_t>(held.size()));
        const int32_t page = held[at];
        const bool offload = action == 7 && queued.size() < 4;
        if (action == 5) {
          table.release({{page}});
        } else {
          table.mark_ready({{page}}, true, offload);
          model.ready(page);
        }
        if (offload) {
          model.refer(page);
          queued.push_back({page});
        }
        model.release(page);
        held.erase(held.begin() + static_cast<ptrdiff_t>(at));
      } else if (action == 8) {
        for (const auto& group : table.take_offloads()) {
          ASSERT_EQ(group, queued.front());
          queued.pop_front();
          held.insert(held.end(), group.begin(), group.end());
        }
        ASSERT_TRUE(queued.empty());
      } else if (pick(20) == 0) {
        table.repair();
      }
      for (int32_t page = 0; page < pages; ++page) {
        ASSERT_EQ(table.view(page).references, model.references(page)) << "seed " << seed;
        ASSERT_EQ(static_cast<int32_t>(table.view(page).state), model.state(page));
      }
    }
    ASSERT_EQ(table.stats().misused, 0u);
  }
}

}  // namespace
}  // namespace ucm::host_pages
