// SPDX-License-Identifier: Apache-2.0
#include <cerrno>
#include <thread>

#include "io/lock_file.h"
#include "page_fixture.h"

namespace ucm {
namespace {

using io::FaultRule;
using io::Operation;
using test::count_pages;
using test::dump_pages;
using test::load_pages;
using test::make_key;
using test::make_keys;
using test::open_pages;
using test::PageRows;
using test::RowCollector;

class PageFaultTest : public test::PageTest, public ::testing::WithParamInterface<bool> {
 protected:
  PageStoreOptions options(uint64_t slots) const {
    PageStoreOptions options = PageTest::options(slots);
    options.use_io_uring = GetParam();
    return options;
  }
  FaultRule rule(Operation operation, int error, uint32_t count = UINT32_MAX) const {
    return {.operation = operation, .path = path() + "/seg-", .count = count, .error = error};
  }
};

INSTANTIATE_TEST_SUITE_P(Engines, PageFaultTest, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "uring" : "threads"; });

TEST_P(PageFaultTest, short_and_interrupted_transfers_are_completed) {
  const auto store = open_pages(options(32));
  FaultRule cut = rule(Operation::any, 0);
  cut.cut = true;
  io::set_faults({rule(Operation::open, EINTR, 2), rule(Operation::allocate, EINTR, 2),
                  rule(Operation::write, EINTR, 7), rule(Operation::read, EINTR, 7), cut});
  const auto keys = make_keys(0, 20);
  for (const Status& status : dump_pages(*store, keys)) EXPECT_TRUE(status.ok());
  EXPECT_EQ(load_pages(*store, keys).right, 20u);
  EXPECT_GT(io::faults_taken(), 40u);
}

TEST_P(PageFaultTest, a_failed_write_fails_its_row_and_nothing_is_visible) {
  const auto store = open_pages(options(32));
  const auto keys = make_keys(0, 3);
  io::set_faults({rule(Operation::write, EIO, 1)});
  const auto statuses = dump_pages(*store, {keys[0]});
  EXPECT_EQ(statuses[0].code(), Code::io_error);
  EXPECT_EQ(count_pages(*store, keys), 0u);
  for (const Status& status : dump_pages(*store, keys)) EXPECT_TRUE(status.ok());
  EXPECT_EQ(load_pages(*store, keys).right, 3u);
}

TEST_P(PageFaultTest, the_slot_of_a_dump_that_found_no_space_is_used_again) {
  const auto store = open_pages(options(4));
  io::set_faults({rule(Operation::write, ENOSPC, 1)});
  EXPECT_EQ(dump_pages(*store, make_keys(9, 1))[0].code(), Code::no_space);
  for (const Status& status : dump_pages(*store, make_keys(20, 4))) EXPECT_TRUE(status.ok());
  EXPECT_EQ(store->stats().blocks, 4u);
  EXPECT_EQ(store->stats().evicted, 0u) << "no slot is lost";
}

TEST_P(PageFaultTest, a_slot_that_could_not_be_written_rests_until_the_store_is_opened_again) {
  auto store = open_pages(options(4));
  io::set_faults({rule(Operation::write, EIO, 1)});
  EXPECT_EQ(dump_pages(*store, make_keys(9, 1))[0].code(), Code::io_error);
  for (const Status& status : dump_pages(*store, make_keys(20, 4))) EXPECT_TRUE(status.ok());
  EXPECT_EQ(store->stats().blocks, 3u);
  EXPECT_EQ(store->stats().evicted, 1u);
  store->close(std::chrono::seconds(10));
  store = open_pages(options(4));
  for (const Status& status : dump_pages(*store, make_keys(40, 1))) EXPECT_TRUE(status.ok());
  EXPECT_EQ(store->stats().blocks, 4u);
}

TEST_P(PageFaultTest, a_full_disk_fails_dumps_and_keeps_older_blocks_readable) {
  const auto store = open_pages(options(32));
  const auto old = make_keys(0, 10);
  dump_pages(*store, old);
  io::set_faults({rule(Operation::write, ENOSPC)});
  for (const Status& status : dump_pages(*store, make_keys(100, 6))) {
    EXPECT_EQ(status.code(), Code::no_space);
    EXPECT_NE(status.message().find("free some space"), std::string::npos) << status.message();
  }
  EXPECT_EQ(load_pages(*store, old).right, 10u);
}

TEST_P(PageFaultTest, repeated_write_errors_pause_writing_and_reading_goes_on) {
  const auto store = open_pages(options(64));
  const auto old = make_keys(0, 10);
  dump_pages(*store, old);
  io::set_faults({rule(Operation::write, EIO)});
  dump_pages(*store, make_keys(100, 8));
  const uint64_t tried = io::faults_taken();
  EXPECT_EQ(dump_pages(*store, make_keys(200, 1))[0].code(), Code::io_error);
  EXPECT_EQ(io::faults_taken(), tried) << "a paused store does not try";
  EXPECT_EQ(load_pages(*store, old).right, 10u);
}

TEST_P(PageFaultTest, a_disk_that_can_not_grow_evicts_instead) {
  const auto store = open_pages(options(64));  // the first segment has 16 slots
  io::set_faults({{.operation = Operation::allocate, .path = path(), .error = ENOSPC}});
  for (int i = 0; i < 10; ++i) {
    for (const Status& status : dump_pages(*store, make_keys(100 * static_cast<uint64_t>(i), 10))) {
      EXPECT_TRUE(status.ok()) << status.to_string();
    }
  }
  EXPECT_GT(store->stats().evicted, 0u);
  EXPECT_EQ(load_pages(*store, make_keys(900, 10)).right, 10u);
}

TEST_P(PageFaultTest, no_slot_at_all_is_no_space) {
  io::set_faults({{.operation = Operation::allocate, .path = path() + "/seg-", .error = ENOSPC}});
  const auto store = open_pages(options(64));
  ASSERT_TRUE(store);
  for (const Status& status : dump_pages(*store, make_keys(0, 3))) {
    EXPECT_EQ(status.code(), Code::no_space);
  }
}

TEST_P(PageFaultTest, a_full_disk_does_not_keep_a_store_from_opening) {
  const auto keys = make_keys(0, 10);
  {
    dump_pages(*open_pages(options(32)), keys);
  }
  io::set_faults({{.operation = Operation::write, .path = path(), .error = ENOSPC}});
  const auto store = open_pages(options(64));
  ASSERT_TRUE(store);
  EXPECT_EQ(load_pages(*store, keys).right, 10u);
}

TEST_P(PageFaultTest, one_failing_read_is_tried_again) {
  const auto store = open_pages(options(32));
  const auto keys = make_keys(0, 5);
  dump_pages(*store, keys);
  io::set_faults({rule(Operation::read, EIO, 1)});
  EXPECT_EQ(load_pages(*store, keys).right, 5u);
}

TEST_P(PageFaultTest, a_block_that_can_not_be_read_is_dropped_and_counted) {
  const auto store = open_pages(options(32));
  const auto keys = make_keys(0, 5);
  dump_pages(*store, keys);
  io::set_faults({rule(Operation::read, EIO)});
  EXPECT_EQ(load_pages(*store, {keys[2]}).statuses[0].code(), Code::io_error);
  io::set_faults({});
  EXPECT_EQ(count_pages(*store, keys), 4u);
  EXPECT_EQ(store->stats().dropped["io_error"], 1u);
  EXPECT_EQ(load_pages(*store, keys).right, 4u);
}

TEST_P(PageFaultTest, a_strict_dump_whose_sync_fails_is_not_done) {
  auto wanted = options(32);
  wanted.durability = Durability::strict;
  const auto store = open_pages(wanted);
  io::set_faults({rule(Operation::sync, EIO)});
  EXPECT_EQ(dump_pages(*store, make_keys(0, 1))[0].code(), Code::io_error);
  EXPECT_EQ(count_pages(*store, make_keys(0, 1)), 0u);
}

TEST_P(PageFaultTest, a_strict_dump_that_meets_its_block_waits_until_that_is_on_the_disk) {
  auto wanted = options(32);
  wanted.durability = Durability::strict;
  const auto store = open_pages(wanted);
  io::set_faults({{.operation = Operation::sync, .path = path() + "/index", .hang = true}});
  const auto keys = make_keys(0, 1);
  const PageRows memory(keys, 8192, true);
  RowCollector first(1);
  RowCollector second(1);
  store->dump(memory.rows(), first.done(), nullptr);
  while (count_pages(*store, keys) == 0) std::this_thread::yield();
  store->dump(memory.rows(), second.done(), nullptr);
  EXPECT_FALSE(second.wait(std::chrono::milliseconds(0))) << "the index is not on the disk yet";
  io::set_faults({});
  EXPECT_TRUE(first.wait() && second.wait());
  EXPECT_TRUE(first[0].ok() && second[0].ok());
}

TEST_P(PageFaultTest, calls_and_close_return_while_the_storage_hangs) {
  auto store = open_pages(options(32));
  const auto keys = make_keys(0, 4);
  dump_pages(*store, keys);
  FaultRule hang = rule(Operation::read, 0);
  hang.delay_ms = 1500;
  io::set_faults({hang});
  const PageRows memory({keys[0]}, 8192, false);
  RowCollector rows(1);
  store->load(memory.rows(), rows.done(), nullptr);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the read is in the storage now
  EXPECT_EQ(count_pages(*store, keys), 4u) << "lookups need no storage";
  EXPECT_FALSE(store->close(std::chrono::milliseconds(100)));
  EXPECT_FALSE(rows.wait(std::chrono::milliseconds(0))) << "the memory is borrowed still";
  EXPECT_EQ(PageStore::open(options(32)).status().code(), Code::unavailable)
      << "nobody else may write while a transfer is under way";
  store.reset();
  EXPECT_TRUE(rows.wait()) << "the row ends when the storage answers";
}

TEST_P(PageFaultTest, a_store_that_was_given_up_lets_go_of_its_lock_when_the_storage_answers) {
  for (const Operation slow : {Operation::read, Operation::write}) {
    auto store = open_pages(options(32));
    const auto keys = make_keys(0, 4);
    dump_pages(*store, keys);
    FaultRule hang = rule(slow, 0);
    hang.delay_ms = 600;
    io::set_faults({hang});
    const bool reads = slow == Operation::read;
    const PageRows memory({reads ? keys[0] : make_key(9)}, 8192, !reads);
    RowCollector rows(1);
    reads ? store->load(memory.rows(), rows.done(), nullptr)
          : store->dump(memory.rows(), rows.done(), nullptr);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(store->close(std::chrono::milliseconds(50)));
    EXPECT_EQ(PageStore::open(options(32)).status().code(), Code::unavailable);
    EXPECT_TRUE(rows.wait());
    io::set_faults({});
    // The first store is there still, closed: its owner may keep it for as long as it likes.
    const auto next = PageStore::open(options(32));
    ASSERT_TRUE(next.ok()) << next.status().to_string();
    EXPECT_EQ(load_pages(*next.value(), keys).right, 4u);
    EXPECT_FALSE(store->close(std::chrono::milliseconds(50))) << "it was given up";
  }
}

TEST_P(PageFaultTest, a_job_that_outlasts_the_close_holds_the_lock_no_longer_than_it_runs) {
  auto wanted = options(32);
  wanted.durability = Durability::group;
  auto store = open_pages(wanted);
  FaultRule hang = rule(Operation::sync, 0);
  hang.delay_ms = 600;
  io::set_faults({hang});
  dump_pages(*store, make_keys(0, 4));
  EXPECT_FALSE(store->close(std::chrono::milliseconds(50))) << "the group is being synced";
  EXPECT_EQ(PageStore::open(wanted).status().code(), Code::unavailable);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (io::is_locked(path() + "/LOCK") && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  io::set_faults({});
  EXPECT_TRUE(PageStore::open(wanted).ok());
}

}  // namespace
}  // namespace ucm
