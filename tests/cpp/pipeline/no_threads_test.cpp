// SPDX-License-Identifier: Apache-2.0
// A process that may have no more threads.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <thread>

#include "processes.h"
#include "test_blocks.h"
#include "ucm/device.h"
#include "ucm/log.h"
#include "ucm/pages.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

// From here on this process starts no thread. Root may always, so it has to be somebody else.
bool give_up_threads() {
  const rlimit none = {0, 0};
  if (::setrlimit(RLIMIT_NPROC, &none) != 0) return false;
  try {
    std::thread([] {}).join();
    return false;
  } catch (const std::system_error&) {
    return true;
  }
}

class NoThreads : public testing::Test {
 protected:
  NoThreads() {
    char pattern[] = "/tmp/ucm-nothreads-XXXXXX";
    folder_ = mkdtemp(pattern);
    std::filesystem::permissions(folder_, std::filesystem::perms::all);
  }
  ~NoThreads() override { std::filesystem::remove_all(folder_); }

  // What `body` answers in a child that is not root.
  static int in_child(const std::function<int()>& body) {
    return Child([&] {
             // Its module may lie where only root can read.
             const auto device = open_device("cpu", 0);
             constexpr uid_t kNobody = 65534;
             if (!device.ok() || (::geteuid() == 0 && ::setuid(kNobody) != 0)) return 90;
             set_log_sink({}, LogLevel::off);
             return body();
           })
        .wait();
  }
  PipelineConfig config(const std::string& spec) const {
    PipelineConfig config;
    config.spec = spec;
    config.options = {{"storage_backends", folder_ + "/store"},
                      {"posix.storage_backends", folder_ + "/posix"},
                      {"buffer_number", int64_t{8}},
                      {"prefault", true},
                      {"capacity_bytes", int64_t{64} << 20}};
    config.layout = BlockLayout::make({3000, 5000}, 2, 7).value();
    return config;
  }

  std::string folder_;
};

class NoThreadsForAPipeline : public NoThreads, public testing::WithParamInterface<const char*> {};

TEST_P(NoThreadsForAPipeline, IsToldWhenItIsOpened) {
  EXPECT_EQ(in_child([&] {
              if (!give_up_threads()) return 91;
              PipelineConfig shared = config(GetParam());
              shared.options["share"] = true;
              shared.options["unique_id"] = folder_.substr(folder_.size() - 6);
              for (const PipelineConfig& each : {config(GetParam()), shared}) {
                if (Pipeline::open(each).status().code() != Code::unavailable) return 1;
              }
              return 0;
            }),
            0);
}

INSTANTIATE_TEST_SUITE_P(Specs, NoThreadsForAPipeline,
                         testing::Values("Cache", "Cache|Disk", "Cache|Posix", "Disk"));

TEST_F(NoThreads, ABlockIsFoundOnADiskWithoutThem) {
  EXPECT_EQ(in_child([&] {
              const auto keys = make_keys(0, 3);
              PipelineConfig disk = config("Cache|Disk");
              if (!dump_blocks(*Pipeline::open(disk).value(), keys).ok()) return 92;
              if (!give_up_threads()) return 91;
              disk.layout = {};
              disk.read_only = true;
              return static_cast<int>(count_present(*Pipeline::open(disk).value(), keys));
            }),
            3);
}

TEST_F(NoThreads, TheRowsOfAPageStoreFailWithoutThem) {
  for (const bool uring : {false, true}) {
    EXPECT_EQ(
        in_child([&] {
          if (!give_up_threads()) return 91;
          PageStoreOptions options;
          options.path = folder_ + "/pages" + std::to_string(uring);
          options.slot_bytes = 8192;
          options.capacity_bytes = 64 * 8192;
          options.use_io_uring = uring;
          const auto store = PageStore::open(options).value();
          std::vector<std::byte> bytes(8192);
          const PageRow row = {make_key(1), bytes.data(), 8000, 8192};
          int failed = 0;
          store->dump(
              {&row, 1},
              [&](uint32_t, const Status& status) { failed += status.code() == Code::io_error; },
              nullptr);
          return store->close(std::chrono::seconds(5)) ? failed : 2;
        }),
        1);
  }
}

}  // namespace
}  // namespace ucm::test
