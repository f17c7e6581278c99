// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "io/faults.h"
#include "test_blocks.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

// What a process may have by default.
constexpr size_t kMostThreads = 8;

// Our threads by name: those that were there before are somebody else's.
class ThreadCount {
 public:
  ThreadCount() {
    each([this](const std::string& id, const std::string&) { before_.insert(id); });
  }
  void look() {
    std::map<std::string, size_t> now;
    size_t count = 0;
    each([&](const std::string& id, const std::string& name) {
      if (before_.contains(id) || !name.starts_with("ucm-")) return;
      ++now[name];
      ++count;
    });
    if (count <= most_) return;
    most_ = count;
    names_ = now;
  }
  size_t most() const { return most_; }
  std::string names() const {
    std::string text;
    for (const auto& [name, count] : names_) text += name + " " + std::to_string(count) + ", ";
    return text;
  }

 private:
  template <typename Visit>
  static void each(const Visit& visit) {
    std::error_code gone;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", gone)) {
      std::string name;
      std::getline(std::ifstream(task.path() / "comm"), name);
      visit(task.path().filename(), name);
    }
  }
  std::set<std::string> before_;
  std::map<std::string, size_t> names_;
  size_t most_ = 0;
};

class PipelineThreadsTest : public testing::TestWithParam<std::tuple<const char*, bool>> {
 protected:
  PipelineThreadsTest() {
    char pattern[] = "/tmp/ucm-threads-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  ~PipelineThreadsTest() override {
    io::set_faults({});
    std::filesystem::remove_all(folder_);
  }
  PipelineConfig config() const {
    PipelineConfig config;
    config.spec = std::get<0>(GetParam());
    config.options = {{"storage_backends", std::vector<std::string>{folder_ + "/a"}},
                      {"posix.storage_backends", std::vector<std::string>{folder_ + "/b"}},
                      {"use_io_uring", std::get<1>(GetParam())},
                      {"buffer_number", int64_t{64}},
                      {"capacity_bytes", int64_t{64} << 20}};
    config.layout = BlockLayout::make({3000, 5000}, 2, 7).value();
    return config;
  }
  std::string folder_;
};

TEST_P(PipelineThreadsTest, ABusyPipelineHasEightAtMost) {
  ThreadCount threads;
  const auto store = Pipeline::open(config()).value();
  // Slow files keep every thread busy that there may be.
  std::vector<io::FaultRule> slow;
  for (const io::Operation operation :
       {io::Operation::read, io::Operation::write, io::Operation::open, io::Operation::allocate}) {
    slow.push_back({.operation = operation, .path = folder_, .delay_ms = 3});
  }
  io::set_faults(slow);
  const auto keys = make_keys(0, 48);
  for (const bool dump : {true, false}) {
    std::atomic<bool> over{false};
    std::thread user([&] {
      if (dump) {
        EXPECT_TRUE(dump_blocks(*store, keys).ok());
      } else {
        EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
      }
      over = true;
    });
    while (!over) {
      threads.look();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    user.join();
  }
  EXPECT_LE(threads.most(), kMostThreads) << threads.names();
  EXPECT_GE(threads.most(), 1u) << "they are not counted";
}

INSTANTIATE_TEST_SUITE_P(Specs, PipelineThreadsTest,
                         testing::Combine(testing::Values("Cache", "Cache|Posix", "Cache|Disk",
                                                          "Cache|Disk|Posix", "Posix", "Disk",
                                                          "Disk|Posix"),
                                          testing::Bool()),
                         [](const auto& each) {
                           std::string name = std::get<0>(each.param);
                           std::replace(name.begin(), name.end(), '|', '_');
                           return name + (std::get<1>(each.param) ? "_uring" : "_threads");
                         });

}  // namespace
}  // namespace ucm::test
