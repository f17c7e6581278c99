// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <thread>

#include "page_service/block_task.h"
#include "page_service/page_keys.h"
#include "service_fixture.h"

namespace ucm {
namespace {

using test::make_keys;

class PageServiceTest : public test::ServiceTest {};

TEST_F(PageServiceTest, pages_come_back_and_outlive_the_service) {
  open(service_options());
  const auto keys = make_keys(0, 20);
  EXPECT_EQ(store(keys), 20u);
  EXPECT_EQ(right(keys), 20u);
  open(service_options());
  EXPECT_EQ(found(keys), 20u);
  EXPECT_EQ(right(keys), 20u);
}

TEST_F(PageServiceTest, stored_blocks_are_named_and_need_no_work) {
  open(service_options());
  const auto keys = make_keys(0, 8);
  ASSERT_EQ(store({keys[1], keys[4]}), 2u);
  fill(0, keys);
  const PageTaskPtr task = start(Direction::dump, keys, 0);
  EXPECT_EQ(task->already_stored(), (std::vector<int32_t>{1, 4}));
  EXPECT_EQ(finished(task), 8u);
  const PageTaskPtr again = start(Direction::dump, keys, 0);
  EXPECT_TRUE(again->ready());
  EXPECT_EQ(again->already_stored().size(), 8u);
}

TEST_F(PageServiceTest, pages_of_a_block_have_names_of_their_own) {
  const auto keys = make_keys(0, 2);
  EXPECT_EQ(page_service::page_key(keys[0], 0), keys[0]);
  std::vector<BlockKey> names;
  for (const BlockKey& key : keys) {
    for (uint32_t back = 0; back < 64; ++back) names.push_back(page_service::page_key(key, back));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(std::count(names.begin(), names.end(), names[i]), 1) << i;
  }
}

TEST_F(PageServiceTest, another_scope_starts_empty_and_a_flag_drops_everything) {
  open(service_options());
  const auto keys = make_keys(0, 4);
  store(keys);
  PageServiceOptions other = service_options();
  other.scope = "another";
  open(other);
  EXPECT_EQ(found(keys), 0u);
  store(keys);
  other.keep = false;
  open(other);
  EXPECT_EQ(found(keys), 0u);
}

TEST_F(PageServiceTest, numbers_that_do_not_fit_are_refused) {
  open(service_options());
  const auto keys = make_keys(0, 2);
  const std::vector<int32_t> pages = {0, static_cast<int32_t>(kPages)};
  EXPECT_EQ(service_->create(Direction::load, {keys, pages}).status().code(),
            Code::invalid_argument);
  EXPECT_EQ(service_->create(Direction::load, {keys, std::span(pages).first(1)}).status().code(),
            Code::invalid_argument);
  PageServiceOptions tiny = service_options();
  tiny.capacity_bytes = 1;
  tiny.path += "-tiny";
  const auto opened = PageService::open(tiny, {tensor_.data(), kPages, test::kPageBytes});
  EXPECT_EQ(opened.status().code(), Code::invalid_argument);
  std::filesystem::remove_all(tiny.path);
}

TEST(BlockTask, an_abort_waits_for_the_copy_that_is_under_way) {
  const page_service::PageItem item{make_keys(0, 1)[0], 0, 0};
  page_service::BlockTask task(Direction::load, {item}, 1, {false}, [](auto&) {});
  ASSERT_TRUE(task.begin_copy(item));
  std::atomic<bool> over{false};
  std::thread aborting([&] {
    task.abort();
    over = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(over) << "bytes may move still";
  task.end_copy();
  aborting.join();
  EXPECT_TRUE(task.ready());
  EXPECT_FALSE(task.begin_copy(item));
}

TEST_F(PageServiceTest, a_task_outlives_its_service) {
  open(service_options());
  const auto keys = make_keys(0, 40);
  fill(0, keys);
  const PageTaskPtr task = start(Direction::dump, keys, 0);
  service_.reset();
  EXPECT_TRUE(task->ready());
  open(service_options());
  EXPECT_EQ(found(keys), finished(task));
}

TEST_F(PageServiceTest, closing_beside_threads_that_create_and_abort_ends_every_task) {
  for (int round = 0; round < 10; ++round) {
    open(service_options());
    std::atomic<bool> go{true};
    std::vector<std::thread> threads;
    std::vector<std::vector<PageTaskPtr>> tasks(3);
    for (size_t t = 0; t < tasks.size(); ++t) {
      threads.emplace_back([&, t] {
        for (uint64_t turn = 0; turn < 400 && go; ++turn) {
          const Direction direction = turn % 2 == 0 ? Direction::dump : Direction::load;
          const auto keys = make_keys(turn % 4 * 8, 8);
          tasks[t].push_back(start(direction, keys, t * 8));
          if (turn % 3 == 0) service_->abort(tasks[t].back());
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(round));
    service_->close(std::chrono::seconds(10));
    go = false;
    for (std::thread& thread : threads) thread.join();
    for (const auto& each : tasks) {
      for (const PageTaskPtr& task : each) EXPECT_TRUE(task->ready() && task->data_safe());
    }
    EXPECT_EQ(service_->active(Direction::dump) + service_->active(Direction::load), 0u);
  }
}

// Writers, readers and aborts on a store that is always full.
TEST_F(PageServiceTest, threads_that_write_read_and_abort_see_right_bytes_only) {
  PageServiceOptions options = service_options();
  options.capacity_bytes = 24 * test::kPageBytes;
  options.staging_bytes = 8 * test::kPageBytes;
  open(options);
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  constexpr size_t kOwn = 16;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const size_t first = t * kOwn;
      for (uint64_t turn = 0; turn < 40; ++turn) {
        const auto keys = make_keys((t + turn) % 5 * 10, 8);
        fill(first, keys);
        const PageTaskPtr dump = start(Direction::dump, keys, first);
        if (turn % 3 == 0) service_->abort(dump);
        if (!wait([&] { return dump->data_safe(); })) ++wrong;
        junk(first, 8);
        const PageTaskPtr load = start(Direction::load, keys, first);
        if (turn % 4 == 0) {
          service_->abort(load);
          junk(first, 8);
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
          if (!is_junk(first, 8)) ++wrong;
          continue;
        }
        if (!wait([&] { return load->ready(); })) ++wrong;
        const auto states = load->states();
        for (size_t i = 0; i < keys.size(); ++i) {
          const bool came = states[i] == BlockState::finished;
          if (!(came ? holds(first + i, keys[i]) : is_junk(first + i, 1))) ++wrong;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(wait([&] { return service_->active(Direction::dump) == 0; }));
  EXPECT_EQ(service_->active(Direction::load), 0u);
}

}  // namespace
}  // namespace ucm
