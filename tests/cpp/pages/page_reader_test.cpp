// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>

#include <atomic>
#include <random>
#include <thread>

#include "page_fixture.h"
#include "processes.h"

namespace ucm {
namespace {

using test::count_pages;
using test::dump_pages;
using test::load_pages;
using test::make_key;
using test::make_keys;
using test::open_pages;

class PageReaderTest : public test::PageTest {
 protected:
  PageStoreOptions reading() const {
    PageStoreOptions options;
    options.path = path();
    options.read_only = true;
    return options;
  }
  // A reader follows a reopened store within its looking interval.
  static bool comes_true(const std::function<bool()>& condition) {
    for (int i = 0; i < 400 && !condition(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return condition();
  }
};

TEST_F(PageReaderTest, sees_blocks_as_they_are_published_and_removed) {
  const auto writer = open_pages(options(64));
  const auto reader = open_pages(reading());
  EXPECT_EQ(reader->slot_bytes(), 8192u);
  const auto keys = make_keys(0, 20);
  EXPECT_EQ(count_pages(*reader, keys), 0u);
  dump_pages(*writer, keys);
  EXPECT_EQ(count_pages(*reader, keys), 20u);
  EXPECT_EQ(load_pages(*reader, keys).right, 20u);
  EXPECT_TRUE(writer->remove(std::vector<BlockKey>{keys[4]}).ok());
  EXPECT_EQ(count_pages(*reader, keys), 19u);
  EXPECT_EQ(load_pages(*reader, {keys[4]}).statuses[0].code(), Code::not_found);
}

TEST_F(PageReaderTest, sees_the_blocks_of_another_process) {
  {
    open_pages(options(64));
  }
  const auto reader = open_pages(reading());
  const pid_t child = test::fork_child();
  if (child == 0) {
    auto store = PageStore::open(options(64));
    if (!store.ok()) ::_exit(1);
    const auto statuses = dump_pages(*store.value(), make_keys(0, 30));
    store.value()->close(test::kPatience);
    ::_exit(std::all_of(statuses.begin(), statuses.end(), [](const Status& s) { return s.ok(); })
                ? 0
                : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_TRUE(comes_true([&] { return count_pages(*reader, make_keys(0, 30)) == 30; }));
  EXPECT_EQ(load_pages(*reader, make_keys(0, 30)).right, 30u);
}

TEST_F(PageReaderTest, writes_nothing) {
  dump_pages(*open_pages(options(16)), {make_key(1)});
  const auto reader = open_pages(reading());
  EXPECT_EQ(dump_pages(*reader, {make_key(2)})[0].code(), Code::unsupported);
  EXPECT_EQ(reader->remove(std::vector<BlockKey>{make_key(1)}).code(), Code::unsupported);
  EXPECT_EQ(count_pages(*reader, {make_key(1)}), 1u);
}

TEST_F(PageReaderTest, an_absent_store_is_not_found_and_nothing_is_made) {
  const auto reader = PageStore::open(reading());
  ASSERT_FALSE(reader.ok());
  EXPECT_EQ(reader.status().code(), Code::not_found);
  EXPECT_FALSE(std::filesystem::exists(path()));
}

TEST_F(PageReaderTest, follows_a_store_that_is_opened_again_larger) {
  dump_pages(*open_pages(options(16)), make_keys(0, 10));
  const auto reader = open_pages(reading());
  EXPECT_EQ(count_pages(*reader, make_keys(0, 10)), 10u);
  const auto writer = open_pages(options(200));
  dump_pages(*writer, make_keys(10, 100));
  EXPECT_TRUE(comes_true([&] { return count_pages(*reader, make_keys(0, 110)) == 110; }));
  EXPECT_EQ(load_pages(*reader, make_keys(0, 110)).right, 110u);
}

TEST_F(PageReaderTest, follows_a_store_that_was_replaced) {
  dump_pages(*open_pages(options(16)), make_keys(0, 10));
  const auto reader = open_pages(reading());
  EXPECT_EQ(count_pages(*reader, make_keys(0, 10)), 10u);
  std::filesystem::remove_all(path());
  dump_pages(*open_pages(options(16)), make_keys(50, 5));
  EXPECT_TRUE(comes_true([&] { return count_pages(*reader, make_keys(50, 5)) == 5; }));
  EXPECT_EQ(count_pages(*reader, make_keys(0, 10)), 0u);
}

TEST_F(PageReaderTest, a_damaged_block_is_a_counted_miss) {
  dump_pages(*open_pages(options(16)), make_keys(0, 4));
  const auto reader = open_pages(reading());
  {
    std::fstream out(path() + "/seg-00000", std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(8192 + 17);
    out << "damage";
  }
  const auto loaded = load_pages(*reader, make_keys(0, 4));
  EXPECT_EQ(loaded.right, 3u);
  EXPECT_EQ(loaded.wrong, 0u);
  EXPECT_EQ(reader->stats().dropped["checksum"], 1u);
}

TEST_F(PageReaderTest, reads_beside_an_evicting_writer_are_right_or_misses) {
  const auto writer = open_pages(options(24, 4096));
  for (const Verify verify : {Verify::always, Verify::never}) {
    auto wanted = reading();
    wanted.verify = verify;
    const auto reader = open_pages(wanted);
    std::atomic<bool> stop{false};
    std::atomic<size_t> wrong{0};
    std::atomic<size_t> right{0};
    std::thread reads([&] {
      std::mt19937_64 random(1);
      while (!stop) {
        const auto loaded = load_pages(*reader, make_keys(random() % 90, 8), 4096);
        wrong += loaded.wrong;
        right += loaded.right;
        for (const Status& status : loaded.statuses) {
          EXPECT_TRUE(status.ok() || status.code() == Code::not_found) << status.to_string();
        }
      }
    });
    std::mt19937_64 random(2);
    for (int step = 0; step < 300 || right == 0; ++step) {
      for (const Status& status : dump_pages(*writer, make_keys(random() % 90, 8), 4096)) {
        EXPECT_TRUE(status.ok());
      }
    }
    stop = true;
    reads.join();
    EXPECT_EQ(wrong, 0u);
    EXPECT_GT(right, 0u);
  }
}

TEST_F(PageReaderTest, a_truncated_or_garbled_table_is_an_error_or_misses) {
  dump_pages(*open_pages(options(16)), make_keys(0, 4));
  std::filesystem::resize_file(path() + "/table", 100);
  EXPECT_FALSE(PageStore::open(reading()).ok());
  {
    open_pages(options(16));
  }
  EXPECT_EQ(load_pages(*open_pages(reading()), make_keys(0, 4)).right, 4u);
}

}  // namespace
}  // namespace ucm
