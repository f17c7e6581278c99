// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>
#include <vector>

#include "io/aligned_buffer.h"
#include "io/direct.h"
#include "io/files.h"
#include "io/lock_file.h"
#include "io/mapped_file.h"
#include "io/paths.h"
#include "io_fixture.h"
#include "ucm/io_capabilities.h"

namespace ucm::io {
namespace {

class FilesTest : public test::IoTest {
 protected:
  File make(const std::string& name = "file") {
    auto file = File::open(path(name), O_RDWR | O_CREAT);
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    return std::move(file).value();
  }
};

TEST_F(FilesTest, reads_and_writes_in_parts_through_short_and_interrupted_calls) {
  const File file = make();
  std::vector<char> first(70000, 'a');
  std::vector<char> second(30000, 'b');
  const std::vector<iovec> out = {{first.data(), first.size()}, {second.data(), second.size()}};
  set_faults(
      {{.path = path("file"), .count = 3, .error = EINTR}, {.path = path("file"), .cut = true}});
  ASSERT_TRUE(write_at(file, 100, out).ok());
  std::vector<char> back(100000);
  const std::vector<iovec> in = {{back.data(), 50000}, {back.data() + 50000, 50000}};
  EXPECT_EQ(read_at(file, 100, in).value(), 100000u);
  EXPECT_EQ(std::string(back.begin(), back.end()),
            std::string(70000, 'a') + std::string(30000, 'b'));
  EXPECT_GT(faults_taken(), 5u);
}

TEST_F(FilesTest, a_read_stops_at_the_end_of_the_file) {
  const File file = make();
  ASSERT_TRUE(write_at(file, 0, "hello", 5).ok());
  char buffer[16];
  EXPECT_EQ(read_at(file, 2, buffer, sizeof buffer).value(), 3u);
  EXPECT_EQ(read_at(file, 99, buffer, sizeof buffer).value(), 0u);
}

TEST_F(FilesTest, errors_name_the_path_and_the_errno) {
  const auto missing = File::open(path("no/such"), O_RDONLY);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.status().code(), Code::not_found);
  EXPECT_NE(missing.status().message().find(path("no/such")), std::string::npos);
  const File file = make();
  set_faults({{.operation = Operation::write, .path = path("file"), .error = ENOSPC}});
  const Status full = write_at(file, 0, "x", 1);
  EXPECT_EQ(full.code(), Code::no_space);
  EXPECT_NE(full.message().find("errno 28"), std::string::npos) << full.message();
  set_faults({{.operation = Operation::read, .path = path("file"), .error = EIO}});
  char byte;
  EXPECT_EQ(read_at(file, 0, &byte, 1).status().code(), Code::io_error);
}

TEST_F(FilesTest, reserved_space_extends_the_file_and_a_failure_leaves_it_as_it_was) {
  const File file = make();
  ASSERT_TRUE(allocate(file, 0, 1 << 20).ok());
  EXPECT_EQ(size_of(file).value(), 1u << 20);
  EXPECT_GE(path_info(path("file")).value().allocated_bytes, 1u << 20);
  EXPECT_EQ(allocate(file, 0, uint64_t{1} << 55).code(), Code::no_space);
  EXPECT_EQ(size_of(file).value(), 1u << 20);
}

TEST_F(FilesTest, folders_are_made_listed_and_removed) {
  ASSERT_TRUE(make_folders(path("a/b/c"), 0711).ok());
  EXPECT_EQ(path_info(path("a/b/c")).value().mode & 0700, 0700u);
  ASSERT_TRUE(make_folders(path("a/b/c")).ok()) << "again is no error";
  ASSERT_TRUE(write_small_file(path("a/b/file"), "text").ok());
  const auto entries = list_folder(path("a/b"));
  std::set<std::string> names;
  for (const FolderEntry& entry : entries.value()) {
    names.insert(entry.name);
    EXPECT_EQ(entry.is_folder, entry.name == "c");
  }
  EXPECT_EQ(names, (std::set<std::string>{"c", "file"}));
  EXPECT_EQ(make_folders(path("a/b/file/d")).code(), Code::invalid_argument);
  EXPECT_EQ(make_folders(path("a/b/file")).code(), Code::invalid_argument);
  EXPECT_TRUE(remove_tree(path("a")).ok());
  EXPECT_FALSE(exists(path("a")));
  EXPECT_TRUE(remove_tree(path("a")).ok()) << "absent is no error";
}

TEST_F(FilesTest, small_files_are_replaced_as_a_whole_or_not_at_all) {
  ASSERT_TRUE(write_small_file(path("small"), "old").ok());
  set_faults({{.operation = Operation::rename, .path = folder(), .error = EIO}});
  EXPECT_FALSE(write_small_file(path("small"), "new").ok());
  set_faults({});
  EXPECT_EQ(read_small_file(path("small")).value(), "old");
  EXPECT_EQ(read_small_file(path("small"), 2).status().code(), Code::corruption);
}

TEST_F(FilesTest, a_link_to_an_existing_name_answers_no) {
  ASSERT_TRUE(write_small_file(path("one"), "1").ok());
  EXPECT_TRUE(link_file(path("one"), path("two")).value());
  EXPECT_FALSE(link_file(path("one"), path("two")).value());
  EXPECT_EQ(link_file(path("none"), path("three")).status().code(), Code::not_found);
  EXPECT_TRUE(rename_path(path("two"), path("four")).ok());
  EXPECT_TRUE(unlink_file(path("four")).ok());
  EXPECT_EQ(unlink_file(path("four")).code(), Code::not_found);
  EXPECT_TRUE(sync_folder(folder()).ok());
}

TEST_F(FilesTest, a_lock_keeps_others_out_until_its_owner_is_gone) {
  {
    const auto lock = LockFile::acquire(path("LOCK"));
    ASSERT_TRUE(lock.ok());
    EXPECT_TRUE(is_locked(path("LOCK")));
    const auto second = LockFile::acquire(path("LOCK"));
    EXPECT_EQ(second.status().code(), Code::unavailable);
    EXPECT_NE(second.status().message().find(std::to_string(::getpid())), std::string::npos);
  }
  EXPECT_FALSE(is_locked(path("LOCK")));
  EXPECT_FALSE(is_locked(path("never made")));
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = LockFile::acquire(path("LOCK"));
    ::raise(lock.ok() ? SIGKILL : SIGABRT);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(WTERMSIG(status), SIGKILL);
  EXPECT_TRUE(LockFile::acquire(path("LOCK")).ok()) << "the lock died with its owner";
}

TEST_F(FilesTest, mapped_files_share_their_bytes_and_know_their_holes) {
  const auto made = MappedFile::open_writable(path("map"), 1 << 20, 8192, 0600);
  ASSERT_TRUE(made.ok()) << made.status().to_string();
  EXPECT_EQ(made.value().bytes(), 1u << 20);
  EXPECT_GE(path_info(path("map")).value().allocated_bytes, 8192u);
  ASSERT_TRUE(made.value().reserve(65536, 4096).ok());
  std::memset(made.value().data() + 65536, 'z', 4096);
  const auto read = MappedFile::open_readable(path("map"), 1 << 20);
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read.value().data()[65536], std::byte{'z'});
  bool covered = false;
  for (const auto& [first, end] : read.value().data_ranges()) {
    covered |= first <= 65536 && end >= 65536 + 4096;
  }
  EXPECT_TRUE(covered);
  EXPECT_TRUE(made.value().sync(65536, 100).ok());
  EXPECT_EQ(MappedFile::open_readable(path("map"), 2 << 20).status().code(), Code::corruption);
}

TEST_F(FilesTest, direct_files_fall_back_where_the_file_system_refuses) {
  set_faults({{.operation = Operation::open, .path = path("file"), .count = 1, .error = EINVAL}});
  const auto file = open_direct(path("file"), O_RDWR | O_CREAT, 0600, true);
  ASSERT_TRUE(file.ok());
  EXPECT_FALSE(file.value().direct());
  EXPECT_TRUE(write_at(file.value(), 0, "any length", 10).ok());
}

TEST_F(FilesTest, faults_hit_only_what_their_rule_names) {
  const File file = make();
  set_faults(
      {{.operation = Operation::write, .path = "another", .error = EIO},
       {.operation = Operation::write, .path = path("file"), .skip = 1, .count = 1, .error = EIO}});
  EXPECT_TRUE(write_at(file, 0, "x", 1).ok());
  EXPECT_FALSE(write_at(file, 0, "x", 1).ok());
  EXPECT_TRUE(write_at(file, 0, "x", 1).ok());
  EXPECT_EQ(faults_taken(), 1u);
}

TEST_F(FilesTest, the_probe_tells_what_a_folder_can_do_and_leaves_nothing_behind) {
  const auto found = io_capabilities(folder());
  ASSERT_TRUE(found.ok()) << found.status().to_string();
  EXPECT_TRUE(found.value().writable);
  EXPECT_FALSE(found.value().file_system.empty());
  EXPECT_GT(found.value().total_bytes, 0u);
  EXPECT_EQ(found.value().o_direct, found.value().direct_reason.empty());
  EXPECT_EQ(found.value().io_uring, found.value().io_uring_reason.empty());
  EXPECT_TRUE(std::filesystem::is_empty(folder()));
  EXPECT_TRUE(io_capabilities(path("not/yet/made")).ok());
  EXPECT_FALSE(std::filesystem::exists(path("not")));
  {
    std::ofstream(path("file")) << "x";
  }
  EXPECT_EQ(io_capabilities(path("file")).status().code(), Code::invalid_argument);
}

}  // namespace
}  // namespace ucm::io
