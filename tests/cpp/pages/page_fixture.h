// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "io/aligned_buffer.h"
#include "io/faults.h"
#include "test_blocks.h"
#include "ucm/pages.h"

namespace ucm::test {

// A folder of its own for each test, on the disk the build lies on, gone afterwards.
class PageTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(info->test_suite_name()) + "." + info->name();
    std::replace(name.begin(), name.end(), '/', '_');
    const char* root = std::getenv("TMPDIR");
    folder_ = std::filesystem::path(root ? root : "/tmp") /
              ("ucm-" + name + "-" + std::to_string(::getpid()));
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override {
    io::set_faults({});
    std::filesystem::remove_all(folder_);
  }
  std::string path() const { return folder_.string(); }

  PageStoreOptions options(uint64_t slots, uint64_t slot_bytes = 8192) const {
    PageStoreOptions options;
    options.path = path();
    options.slot_bytes = slot_bytes;
    options.capacity_bytes = slots * slot_bytes;
    options.segment_bytes = 16 * slot_bytes;
    return options;
  }

 private:
  std::filesystem::path folder_;
};

inline std::shared_ptr<PageStore> open_pages(const PageStoreOptions& options) {
  auto store = PageStore::open(options);
  EXPECT_TRUE(store.ok()) << store.status().to_string();
  return store.ok() ? std::move(store).value() : nullptr;
}

// Collects the rows of a call and waits for all of them.
class RowCollector {
 public:
  explicit RowCollector(size_t rows) : statuses_(rows), left_(rows) {}

  PageRowDone done() {
    return [this](uint32_t row, const Status& status) {
      const std::lock_guard lock(mutex_);
      statuses_[row] = status;
      if (--left_ == 0) all_.notify_all();
    };
  }
  // False when rows are missing after half a minute.
  bool wait(std::chrono::milliseconds patience = std::chrono::seconds(30)) {
    std::unique_lock lock(mutex_);
    return all_.wait_for(lock, patience, [this] { return left_ == 0; });
  }
  const Status& operator[](size_t row) const { return statuses_[row]; }

 private:
  std::mutex mutex_;
  std::condition_variable all_;
  std::vector<Status> statuses_;
  size_t left_;
};

// Memory for some rows, filled with what the keys say.
class PageRows {
 public:
  PageRows(const std::vector<BlockKey>& keys, uint32_t bytes, bool filled) : keys_(keys) {
    for (size_t i = 0; i < keys.size(); ++i) {
      buffers_.push_back(io::AlignedBuffer::make(bytes));
      std::memset(buffers_[i].data(), 0, buffers_[i].bytes());
      if (filled) {
        for (size_t k = 0; k < bytes; ++k) buffers_[i].data()[k] = content(keys[i], k);
      }
      rows_.push_back({keys[i], buffers_[i].data(), bytes,
                       static_cast<uint32_t>(buffers_[i].bytes()), static_cast<uint32_t>(i)});
    }
  }
  std::span<const PageRow> rows() const { return rows_; }
  bool right(size_t i) const {
    for (size_t k = 0; k < rows_[i].bytes; ++k) {
      if (buffers_[i].data()[k] != content(keys_[i], k)) return false;
    }
    return true;
  }

 private:
  std::vector<BlockKey> keys_;
  std::vector<io::AlignedBuffer> buffers_;
  std::vector<PageRow> rows_;
};

inline std::vector<Status> dump_pages(PageStore& store, const std::vector<BlockKey>& keys,
                                      uint32_t bytes = 8192) {
  const PageRows memory(keys, bytes, true);
  RowCollector rows(keys.size());
  store.dump(memory.rows(), rows.done(), nullptr);
  EXPECT_TRUE(rows.wait());
  std::vector<Status> statuses;
  for (size_t i = 0; i < keys.size(); ++i) statuses.push_back(rows[i]);
  return statuses;
}

struct Loaded {
  std::vector<Status> statuses;
  size_t right = 0;
  size_t wrong = 0;  // answered ok with other bytes: must never happen
};

inline Loaded load_pages(PageStore& store, const std::vector<BlockKey>& keys,
                         uint32_t bytes = 8192) {
  const PageRows memory(keys, bytes, false);
  RowCollector rows(keys.size());
  store.load(memory.rows(), rows.done(), nullptr);
  EXPECT_TRUE(rows.wait());
  Loaded loaded;
  for (size_t i = 0; i < keys.size(); ++i) {
    loaded.statuses.push_back(rows[i]);
    if (rows[i].ok()) ++(memory.right(i) ? loaded.right : loaded.wrong);
  }
  return loaded;
}

inline std::vector<uint8_t> present_pages(const PageStore& store,
                                          const std::vector<BlockKey>& keys) {
  std::vector<uint8_t> present(keys.size());
  store.lookup(keys, present);
  return present;
}

inline size_t count_pages(const PageStore& store, const std::vector<BlockKey>& keys) {
  const auto present = present_pages(store, keys);
  return static_cast<size_t>(std::count(present.begin(), present.end(), 1));
}

}  // namespace ucm::test
