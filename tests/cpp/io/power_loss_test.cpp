// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "io/aligned_buffer.h"
#include "io/engine.h"
#include "io/faults.h"
#include "io/mapped_file.h"
#include "io/paths.h"
#include "io_fixture.h"

namespace ucm::io {
namespace {

// What the recorded folder looks like after losses of many seeds at one point.
class PowerLossTest : public test::IoTest {
 protected:
  void SetUp() override {
    IoTest::SetUp();
    ASSERT_TRUE(make_folders(path("disk")).ok());
  }
  std::string disk(const std::string& name) const { return join(path("disk"), name); }
  void start() {
    auto started = WriteRecording::start(path("disk"));
    ASSERT_TRUE(started.ok()) << started.status().to_string();
    recording_ = std::move(started).value();
  }
  std::string content(const std::string& file) {
    const auto text = read_small_file(file);
    return text.ok() ? text.value() : "absent";
  }
  // The contents that `name` has after power losses at `point`, over many seeds.
  std::set<std::string> outcomes(const std::string& name, uint64_t point) {
    std::set<std::string> found;
    for (uint64_t seed = 0; seed < 60; ++seed) {
      EXPECT_TRUE(recording_->rebuild({.point = point, .seed = seed}, path("after")).ok());
      found.insert(content(join(path("after"), name)));
      EXPECT_TRUE(remove_tree(path("after")).ok());
    }
    return found;
  }
  std::string after_kill(const std::string& name) {
    const PowerLoss loss = {.point = recording_->changes(), .process_only = true};
    EXPECT_TRUE(recording_->rebuild(loss, path("after")).ok());
    const std::string text = content(join(path("after"), name));
    EXPECT_TRUE(remove_tree(path("after")).ok());
    return text;
  }

  std::unique_ptr<WriteRecording> recording_;
};

using Set = std::set<std::string>;

TEST_F(PowerLossTest, a_write_is_there_in_any_of_its_sectors_until_it_is_synced) {
  ASSERT_TRUE(write_small_file(disk("file"), std::string(1024, 'a')).ok());
  start();
  const auto file = File::open(disk("file"), O_WRONLY);
  ASSERT_TRUE(file.ok());
  const std::string bytes(1024, 'b');
  ASSERT_TRUE(write_at(file.value(), 0, bytes.data(), bytes.size()).ok());
  const std::string a(512, 'a');
  const std::string b(512, 'b');
  const uint64_t unsynced = recording_->changes();
  EXPECT_EQ(outcomes("file", unsynced), (Set{a + a, a + b, b + a, b + b}));
  EXPECT_EQ(after_kill("file"), b + b);
  ASSERT_TRUE(sync_data(file.value()).ok());
  EXPECT_EQ(outcomes("file", recording_->changes()), Set{b + b});
  EXPECT_EQ(outcomes("file", 0), Set{a + a});
}

TEST_F(PowerLossTest, a_name_is_there_or_not_until_its_folder_is_synced) {
  start();
  ASSERT_TRUE(write_small_file(disk("file"), "text").ok());
  EXPECT_EQ(outcomes("file", recording_->changes()), (Set{"absent", "text"}));
  ASSERT_TRUE(sync_folder(path("disk")).ok());
  EXPECT_EQ(outcomes("file", recording_->changes()), Set{"text"});
  ASSERT_TRUE(unlink_file(disk("file")).ok());
  EXPECT_EQ(outcomes("file", recording_->changes()), (Set{"absent", "text"}));
  EXPECT_EQ(after_kill("file"), "absent");
}

TEST_F(PowerLossTest, a_rename_without_a_sync_of_the_file_can_leave_it_empty) {
  start();
  {
    const auto file = File::open(disk("aside"), O_WRONLY | O_CREAT);
    ASSERT_TRUE(write_at(file.value(), 0, "text", 4).ok());
  }
  ASSERT_TRUE(rename_path(disk("aside"), disk("file")).ok());
  EXPECT_EQ(outcomes("file", recording_->changes()), (Set{"absent", "", "text"}));
}

TEST_F(PowerLossTest, a_folder_takes_what_is_in_it_along) {
  start();
  ASSERT_TRUE(make_folders(disk("a/b")).ok());
  ASSERT_TRUE(write_small_file(disk("a/b/file"), "text").ok());
  ASSERT_TRUE(sync_folder(disk("a/b")).ok());
  EXPECT_EQ(outcomes("a/b/file", recording_->changes()), (Set{"absent", "text"}));
  ASSERT_TRUE(sync_folder(disk("a")).ok());
  ASSERT_TRUE(sync_folder(path("disk")).ok());
  EXPECT_EQ(outcomes("a/b/file", recording_->changes()), Set{"text"});
}

TEST_F(PowerLossTest, stores_through_a_mapping_are_recorded_like_writes) {
  start();
  auto mapped = MappedFile::open_writable(disk("map"), 4096, 4096, 0600);
  ASSERT_TRUE(mapped.ok());
  ASSERT_TRUE(sync_folder(path("disk")).ok());
  mapped.value().data()[100] = std::byte{'x'};
  std::string changed(4096, '\0');
  changed[100] = 'x';
  EXPECT_EQ(after_kill("map"), changed);
  EXPECT_TRUE(outcomes("map", recording_->changes()).contains(std::string(4096, '\0')));
  ASSERT_TRUE(mapped.value().sync(0, 4096).ok());
  EXPECT_EQ(outcomes("map", recording_->changes()), Set{changed});
}

TEST_F(PowerLossTest, both_engines_tell_of_their_writes) {
  for (const bool uring : {false, true}) {
    start();
    const auto engine = make_engine({.use_io_uring = uring});
    const auto opened =
        std::make_shared<const File>(File::open(disk("data"), O_WRONLY | O_CREAT).value());
    std::string bytes(8192, uring ? 'u' : 't');
    std::atomic<bool> over{false};
    Request request;
    request.file = opened;
    request.write = true;
    request.buffer = bytes.data();
    request.bytes = bytes.size();
    request.done = [&](const Transferred& result) {
      EXPECT_EQ(result.bytes, bytes.size());
      over = true;
    };
    engine->submit({&request, 1});
    while (!over) std::this_thread::yield();
    EXPECT_EQ(after_kill("data"), bytes);
    EXPECT_TRUE(engine->close(std::chrono::seconds(5)));
    recording_.reset();
    ASSERT_TRUE(unlink_file(disk("data")).ok());
  }
}

TEST_F(PowerLossTest, the_same_seed_makes_the_same_disk_and_a_second_recording_has_to_wait) {
  start();
  EXPECT_EQ(WriteRecording::start(path("disk")).status().code(), Code::unavailable);
  ASSERT_TRUE(write_small_file(disk("file"), std::string(5000, 'x')).ok());
  const PowerLoss loss = {.point = recording_->changes(), .seed = 11};
  ASSERT_TRUE(recording_->rebuild(loss, path("one")).ok());
  ASSERT_TRUE(recording_->rebuild(loss, path("two")).ok());
  EXPECT_EQ(content(path("one/file")), content(path("two/file")));
  recording_.reset();
  EXPECT_TRUE(WriteRecording::start(path("disk")).ok());
}

}  // namespace
}  // namespace ucm::io
