// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "io/faults.h"
#include "io/lock_file.h"
#include "io/mapped_file.h"
#include "io/paths.h"
#include "io_fixture.h"

namespace ucm::io {
namespace {

class FaultLayerTest : public test::IoTest {};

TEST_F(FaultLayerTest, a_rule_with_a_probability_strikes_the_same_calls_for_the_same_seed) {
  const auto strikes = [&](uint64_t seed) {
    set_faults({{.operation = Operation::stat,
                 .path = folder(),
                 .error = EIO,
                 .probability = 0.3,
                 .seed = seed}});
    std::vector<bool> failed;
    for (int i = 0; i < 400; ++i) failed.push_back(!path_info(folder()).ok());
    return failed;
  };
  const auto first = strikes(7);
  EXPECT_EQ(first, strikes(7));
  EXPECT_NE(first, strikes(8));
  const auto count = std::count(first.begin(), first.end(), true);
  EXPECT_GT(count, 60);
  EXPECT_LT(count, 200);
}

TEST_F(FaultLayerTest, a_path_with_a_star_is_a_pattern_and_any_other_a_part_of_the_path) {
  set_faults({{.operation = Operation::stat, .path = "*/seg-0000?", .error = EIO}});
  EXPECT_EQ(path_info(path("seg-00001")).status().code(), Code::io_error);
  EXPECT_EQ(path_info(path("seg-000012")).status().code(), Code::not_found);
  set_faults({{.operation = Operation::stat, .path = "seg-", .error = EIO}});
  EXPECT_EQ(path_info(path("seg-000012")).status().code(), Code::io_error);
}

TEST_F(FaultLayerTest, a_call_hangs_until_the_rules_are_replaced) {
  set_faults({{.operation = Operation::mkdir, .path = folder(), .hang = true}});
  std::atomic<bool> made{false};
  std::thread maker([&] {
    EXPECT_TRUE(make_folders(path("below")).ok());
    made = true;
  });
  while (faults_taken() == 0) std::this_thread::yield();
  EXPECT_FALSE(made);
  set_faults({});
  maker.join();
  EXPECT_TRUE(made);
}

// Every call of the rooms above that reaches the file system asks the layer first.
TEST_F(FaultLayerTest, every_operation_can_fail_with_every_error_of_a_sick_storage) {
  ASSERT_TRUE(write_small_file(path("file"), "12345678").ok());
  ASSERT_TRUE(make_folders(path("folder")).ok());
  const auto file = File::open(path("file"), O_RDWR);
  const auto mapped = MappedFile::open_writable(path("map"), 4096, 4096, 0600);
  ASSERT_TRUE(file.ok() && mapped.ok());
  char byte = 0;
  for (const int error : {EIO, ENOSPC, EDQUOT, ESTALE}) {
    const auto fails = [&](Operation operation, auto call) {
      set_faults({{.operation = operation, .path = folder(), .error = error}});
      const Status status = call();
      EXPECT_FALSE(status.ok()) << static_cast<int>(operation);
      EXPECT_EQ(faults_taken(), 1u) << static_cast<int>(operation);
      set_faults({});
    };
    fails(Operation::open, [&] { return File::open(path("file"), O_RDONLY).status(); });
    fails(Operation::read, [&] { return read_at(file.value(), 0, &byte, 1).status(); });
    fails(Operation::write, [&] { return write_at(file.value(), 0, &byte, 1); });
    fails(Operation::sync, [&] { return sync_data(file.value()); });
    fails(Operation::sync, [&] { return sync_all(file.value()); });
    fails(Operation::sync, [&] { return sync_folder(folder()); });
    fails(Operation::sync, [&] { return mapped.value().sync(0, 4096); });
    fails(Operation::allocate, [&] { return allocate(file.value(), 0, 4096); });
    fails(Operation::allocate, [&] { return resize(file.value(), 8); });
    fails(Operation::stat, [&] { return size_of(file.value()).status(); });
    fails(Operation::stat, [&] { return path_info(path("file")).status(); });
    fails(Operation::stat, [&] { return space_of(folder()).status(); });
    fails(Operation::mkdir, [&] { return make_folders(path("other")); });
    fails(Operation::list, [&] { return list_folder(folder()).status(); });
    fails(Operation::unlink, [&] { return remove_tree(path("folder")); });
    fails(Operation::unlink, [&] { return unlink_file(path("file")); });
    fails(Operation::rename, [&] { return rename_path(path("file"), path("b")); });
    fails(Operation::link, [&] { return link_file(path("file"), path("b")).status(); });
    fails(Operation::map, [&] { return MappedFile::open_readable(path("map"), 1).status(); });
    fails(Operation::lock, [&] { return LockFile::acquire(path("LOCK")).status(); });
  }
  EXPECT_TRUE(exists(path("file")) && exists(path("folder")));
}

}  // namespace
}  // namespace ucm::io
