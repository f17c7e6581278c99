// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <numeric>
#include <thread>

#include "pages/page_fixture.h"
#include "ucm/page_service.h"

namespace ucm::test {

inline constexpr size_t kPageBytes = 8192;
inline constexpr std::byte kJunk{0xEE};

// A service over a tensor of its own.
class ServiceTest : public PageTest {
 protected:
  void SetUp() override {
    PageTest::SetUp();
    tensor_.assign(kPages * kPageBytes, kJunk);
  }
  void TearDown() override {
    io::set_faults({});
    service_.reset();
    PageTest::TearDown();
  }
  PageServiceOptions service_options() const {
    PageServiceOptions options;
    options.path = path();
    options.capacity_bytes = 64 * kPageBytes;
    options.scope = "test";
    return options;
  }
  void open(const PageServiceOptions& options) {
    service_.reset();
    auto opened = PageService::open(options, {tensor_.data(), kPages, kPageBytes});
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    service_ = std::move(opened).value();
  }
  io::FaultRule rule(io::Operation operation, int error, uint32_t delay_ms = 0) const {
    return {.operation = operation, .path = path(), .error = error, .delay_ms = delay_ms};
  }

  std::byte* page(size_t number) { return tensor_.data() + number * kPageBytes; }
  void fill(size_t first, const std::vector<BlockKey>& keys) {
    for (size_t i = 0; i < keys.size(); ++i) {
      for (size_t at = 0; at < kPageBytes; ++at) page(first + i)[at] = content(keys[i], at);
    }
  }
  bool holds(size_t number, const BlockKey& key) {
    for (size_t at = 0; at < kPageBytes; ++at) {
      if (page(number)[at] != content(key, at)) return false;
    }
    return true;
  }
  bool is_junk(size_t first, size_t count) {
    return std::all_of(page(first), page(first) + count * kPageBytes,
                       [](std::byte b) { return b == kJunk; });
  }
  void junk(size_t first, size_t count) {
    std::fill(page(first), page(first) + count * kPageBytes, kJunk);
  }

  PageTaskPtr start(Direction direction, const std::vector<BlockKey>& keys, size_t first) {
    std::vector<int32_t> pages(keys.size());
    std::iota(pages.begin(), pages.end(), static_cast<int32_t>(first));
    auto made = service_->create(direction, {keys, pages});
    EXPECT_TRUE(made.ok()) << made.status().to_string();
    return made.ok() ? made.value() : nullptr;
  }
  static bool wait(const std::function<bool()>& condition) {
    for (const auto end = std::chrono::steady_clock::now() + kPatience; !condition();) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
  size_t finished(const PageTaskPtr& task) {
    EXPECT_TRUE(wait([&] { return task->ready(); }));
    const auto states = task->states();
    return static_cast<size_t>(std::count(states.begin(), states.end(), BlockState::finished));
  }
  size_t store(const std::vector<BlockKey>& keys) {
    fill(0, keys);
    return finished(start(Direction::dump, keys, 0));
  }
  size_t found(const std::vector<BlockKey>& keys) {
    std::vector<uint8_t> present(keys.size());
    service_->lookup(keys, keys.size(), 1, present);
    return static_cast<size_t>(std::count(present.begin(), present.end(), 1));
  }
  // Reads the keys behind the first half of the tensor; how many came, all of them right.
  size_t right(const std::vector<BlockKey>& keys) {
    junk(kPages / 2, keys.size());
    const PageTaskPtr task = start(Direction::load, keys, kPages / 2);
    const size_t count = finished(task);
    const auto states = task->states();
    for (size_t i = 0; i < keys.size(); ++i) {
      const bool came = states[i] == BlockState::finished;
      EXPECT_TRUE(came ? holds(kPages / 2 + i, keys[i]) : is_junk(kPages / 2 + i, 1)) << i;
    }
    return count;
  }

  static constexpr size_t kPages = 96;
  std::vector<std::byte> tensor_;
  std::shared_ptr<PageService> service_;
};

}  // namespace ucm::test
