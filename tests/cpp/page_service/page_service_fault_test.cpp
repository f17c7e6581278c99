// SPDX-License-Identifier: Apache-2.0
#include <cerrno>

#include "io/lock_file.h"
#include "service_fixture.h"

namespace ucm {
namespace {

using io::Operation;
using test::make_keys;

class PageServiceFaultTest : public test::ServiceTest {};

TEST_F(PageServiceFaultTest, on_a_full_disk_writes_abort_and_older_pages_stay_right) {
  open(service_options());
  const auto old = make_keys(0, 10);
  ASSERT_EQ(store(old), 10u);
  const auto late = make_keys(100, 10);
  io::set_faults({rule(Operation::write, ENOSPC), rule(Operation::allocate, ENOSPC)});
  EXPECT_EQ(store(late), 0u);
  EXPECT_GT(io::faults_taken(), 0u);
  EXPECT_EQ(found(late), 0u);
  EXPECT_EQ(right(old), 10u);
  EXPECT_EQ(service_->active(Direction::dump), 0u);
  EXPECT_FALSE(service_->stats().failed_dumps.empty());
}

TEST_F(PageServiceFaultTest, space_that_comes_back_is_used_again) {
  open(service_options());
  const auto keys = make_keys(0, 2);
  io::set_faults({rule(Operation::write, ENOSPC)});
  EXPECT_EQ(store(keys), 0u);
  io::set_faults({});
  EXPECT_EQ(store(keys), 2u);
  EXPECT_EQ(right(keys), 2u);
}

TEST_F(PageServiceFaultTest, a_page_that_can_not_be_read_aborts_its_block_only) {
  open(service_options());
  const auto keys = make_keys(0, 8);
  ASSERT_EQ(store(keys), 8u);
  io::FaultRule later = rule(Operation::read, EIO);
  later.path += "/pages/seg-";
  later.skip = 4;
  io::set_faults({later});
  EXPECT_EQ(right(keys), 4u);
  io::set_faults({});
  // What a disk can not read is dropped, so that it is written again.
  EXPECT_EQ(found(keys), 4u);
  EXPECT_EQ(store(keys), 8u);
  EXPECT_EQ(right(keys), 8u);
}

TEST_F(PageServiceFaultTest, short_transfers_are_completed) {
  open(service_options());
  io::FaultRule cut = rule(Operation::any, 0);
  cut.cut = true;
  io::set_faults({cut});
  const auto keys = make_keys(0, 20);
  EXPECT_EQ(store(keys), 20u);
  EXPECT_EQ(right(keys), 20u);
  EXPECT_GT(io::faults_taken(), 20u);
}

TEST_F(PageServiceFaultTest, an_aborted_read_leaves_the_disk_behind_and_the_pages_alone) {
  open(service_options());
  const auto keys = make_keys(0, 8);
  ASSERT_EQ(store(keys), 8u);
  junk(40, 8);
  io::set_faults({rule(Operation::read, 0, 300)});
  const PageTaskPtr task = start(Direction::load, keys, 40);
  ASSERT_TRUE(wait([&] { return io::faults_taken() > 0; }));
  service_->abort(task);
  EXPECT_TRUE(task->ready() && task->data_safe());
  EXPECT_GT(service_->stats().store.transfers_under_way, 0u) << "abort waited for the disk";
  EXPECT_EQ(service_->active(Direction::load), 0u);
  EXPECT_TRUE(wait([&] { return service_->stats().store.transfers_under_way == 0; }));
  EXPECT_TRUE(is_junk(40, 8));
}

TEST_F(PageServiceFaultTest, pages_of_a_write_are_free_before_the_disk_has_them) {
  open(service_options());
  const auto keys = make_keys(0, 4);
  fill(0, keys);
  io::set_faults({rule(Operation::write, 0, 300)});
  const PageTaskPtr task = start(Direction::dump, keys, 0);
  ASSERT_TRUE(wait([&] { return task->data_safe(); }));
  EXPECT_FALSE(task->ready());
  junk(0, 4);
  EXPECT_EQ(finished(task), 4u);
  EXPECT_EQ(right(keys), 4u);
}

TEST_F(PageServiceFaultTest, what_is_staged_is_bounded_and_waiting_pages_are_not_safe_yet) {
  PageServiceOptions options = service_options();
  options.staging_bytes = 8 * test::kPageBytes;
  open(options);
  const auto keys = make_keys(0, 40);
  fill(0, keys);
  io::set_faults({rule(Operation::write, 0, 20)});
  const PageTaskPtr task = start(Direction::dump, keys, 0);
  EXPECT_FALSE(task->data_safe());
  EXPECT_EQ(service_->stats().staging_bytes, 8 * test::kPageBytes);
  EXPECT_EQ(finished(task), 40u);
  EXPECT_EQ(right(keys), 40u);
}

TEST_F(PageServiceFaultTest, writes_go_on_beside_a_flood_of_reads) {
  PageServiceOptions options = service_options();
  options.staging_bytes = 8 * test::kPageBytes;
  options.use_io_uring = false;
  open(options);
  const auto keys = make_keys(0, 40);
  ASSERT_EQ(store(keys), 40u);
  io::set_faults({rule(Operation::read, 0, 5)});
  std::vector<PageTaskPtr> flood;
  for (int i = 0; i < 20; ++i) flood.push_back(start(Direction::load, keys, 48));
  const auto late = make_keys(100, 8);
  fill(0, late);
  const PageTaskPtr dump = start(Direction::dump, late, 0);
  EXPECT_EQ(finished(dump), 8u);
  EXPECT_GT(service_->active(Direction::load), 0u) << "the write waited for all reads";
  io::set_faults({});
  for (const PageTaskPtr& load : flood) EXPECT_EQ(finished(load), 40u);
}

TEST_F(PageServiceFaultTest, closing_aborts_what_a_slow_disk_does_not_finish_in_time) {
  open(service_options());
  const auto keys = make_keys(0, 16);
  fill(0, keys);
  io::set_faults({rule(Operation::write, 0, 30)});
  const PageTaskPtr dump = start(Direction::dump, keys, 0);
  service_->close(std::chrono::milliseconds(10));
  EXPECT_TRUE(dump->ready() && dump->data_safe());
  EXPECT_EQ(service_->active(Direction::dump), 0u);
  const PageTaskPtr late = start(Direction::load, keys, 40);
  EXPECT_TRUE(late->ready());
  EXPECT_EQ(finished(late), 0u);
}

TEST_F(PageServiceFaultTest, the_folder_is_free_when_a_disk_that_was_given_up_has_answered) {
  for (const Direction direction : {Direction::dump, Direction::load}) {
    const bool reads = direction == Direction::load;
    open(service_options());
    const auto keys = make_keys(0, 4);
    ASSERT_EQ(store(keys), 4u);
    const auto moved = reads ? keys : make_keys(10, 1);
    fill(0, moved);
    io::set_faults({rule(reads ? io::Operation::read : io::Operation::write, 0, 1600)});
    const PageTaskPtr task = start(direction, moved, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // it is in the storage now
    service_->close(std::chrono::milliseconds(10));
    EXPECT_TRUE(io::is_locked(path() + "/LOCK"));
    EXPECT_TRUE(io::is_locked(path() + "/pages/LOCK"));
    // The service is held still, closed, as an engine's process holds it.
    EXPECT_TRUE(wait([&] { return !io::is_locked(path() + "/LOCK"); }));
    EXPECT_TRUE(wait([&] { return !io::is_locked(path() + "/pages/LOCK"); }));
    io::set_faults({});
    const auto closed = std::move(service_);
    open(service_options());
    ASSERT_EQ(right(keys), 4u);
  }
}

TEST_F(PageServiceFaultTest, a_folder_that_can_not_be_written_is_refused_at_open) {
  io::set_faults({rule(Operation::mkdir, EROFS)});
  const auto opened =
      PageService::open(service_options(), {tensor_.data(), kPages, test::kPageBytes});
  EXPECT_FALSE(opened.ok());
}

}  // namespace
}  // namespace ucm
