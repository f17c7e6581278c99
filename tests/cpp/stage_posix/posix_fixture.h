// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "io/faults.h"
#include "io/paths.h"
#include "stages/posix/posix_root.h"
#include "store/stage.h"
#include "test_blocks.h"
#include "ucm/log.h"

namespace ucm::test {

// A scratch directory per test and Posix stores on top of it.
class PosixTest : public ::testing::Test {
 protected:
  static constexpr size_t kBlockBytes = 3 * 4096 + 100;

  void SetUp() override {
    // Damage and faults are made on purpose here; their warnings are expected.
    set_log_sink({}, LogLevel::error);
    std::string pattern = (std::filesystem::temp_directory_path() / "ucm-posix-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    scratch_ = pattern;
    options_["storage_backends"] = root();
    options_["timeout_s"] = 15.0;
    options_["pack_bytes"] = int64_t{0};  // what shares files has tests of its own
  }
  void TearDown() override {
    io::set_faults({});
    set_log_sink({}, LogLevel::warning);
    std::filesystem::remove_all(scratch_);
  }

  std::string scratch(const std::string& name) const { return scratch_ + "/" + name; }
  std::string root() const { return scratch("store"); }
  // The folder of a block with its slashes: in fault rules it spares the collector's files.
  static std::string folder_of(const BlockKey& key) { return "/" + key.hex().substr(0, 2) + "/"; }
  std::string file_of(const BlockKey& key) const { return posix::block_path(root(), key); }

  Result<StorePtr> try_open(const Options& options, const BlockLayout& layout,
                            bool read_only = false) {
    registry_ = std::make_shared<base::MetricRegistry>();
    StageContext context;
    context.options = &options;
    context.layout = layout;
    context.read_only = read_only;
    context.metrics = registry_;
    return find_stage("posix")->make(std::move(context));
  }
  StorePtr open(const BlockLayout& layout, bool read_only = false) {
    auto store = try_open(options_, layout, read_only);
    EXPECT_TRUE(store.ok()) << store.status().to_string();
    return store.ok() ? std::move(store).value() : nullptr;
  }
  StorePtr open() { return open(flat_layout()); }

  static BlockLayout flat_layout(size_t bytes = kBlockBytes, uint64_t id = 7) {
    return BlockLayout::make({bytes}, 1, id).value();
  }

  // The value of a metric summed over the labels that were not asked for.
  double metric(const std::string& name, const std::string& label = "",
                const std::string& value = "") const {
    double sum = 0;
    for (const MetricSample& sample : registry_->samples()) {
      if (sample.name != name) continue;
      bool fits = label.empty();
      for (const auto& [key, text] : sample.labels) fits |= key == label && text == value;
      if (fits) sum += sample.value;
    }
    return sum;
  }
  double dropped(const std::string& cause) const {
    return metric("ucm_dropped_blocks_total", "cause", cause);
  }

  static uint64_t inode_of(const std::string& path) {
    struct stat info = {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
  }
  static unsigned mode_of(const std::string& path) {
    struct stat info = {};
    return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
  }
  static std::vector<char> read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  static void write_file(const std::string& path, const std::vector<char>& bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  // Every file below a folder whose name starts with `prefix`.
  static size_t count_files(const std::string& folder, const std::string& prefix) {
    size_t count = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      count += entry.is_regular_file() && name.compare(0, prefix.size(), prefix) == 0;
    }
    return count;
  }
  // Waits for something another thread brings about.
  template <typename Condition>
  static bool eventually(Condition condition) {
    const auto end = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
      ::usleep(5000);
    }
    return true;
  }

  std::string scratch_;
  Options options_;
  std::shared_ptr<base::MetricRegistry> registry_;
};

}  // namespace ucm::test
