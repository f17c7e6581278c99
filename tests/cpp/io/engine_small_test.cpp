// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <latch>
#include <vector>

#include "base/lasting_memory.h"
#include "io/direct.h"
#include "io/engine.h"
#include "io/faults.h"
#include "io_fixture.h"
#include "ucm/layout.h"

namespace ucm::io {
namespace {

// Small requests and memory that an engine may prepare: how they are moved must not show.
class SmallTransfers : public test::IoTest, public ::testing::WithParamInterface<bool> {
 protected:
  static constexpr size_t kCount = 300;

  void SetUp() override {
    IoTest::SetUp();
    void* mapped =
        ::mmap(nullptr, kPoolBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(mapped, MAP_FAILED);
    pool_ = static_cast<std::byte*>(mapped);
    auto file = open_direct(path("file"), O_RDWR | O_CREAT, 0600, true);
    ASSERT_TRUE(file.ok());
    file_ = std::make_shared<const File>(std::move(file).value());
  }
  void TearDown() override {
    ::munmap(pool_, kPoolBytes);
    IoTest::TearDown();
  }
  static std::shared_ptr<Engine> make() {
    EngineOptions options;
    options.use_io_uring = GetParam();
    return make_engine(options);
  }

  std::byte* in_line(size_t i) const { return pool_ + i * kAlign; }

  // One request per block, in one submission; how each ended.
  std::vector<Transferred> move(Engine& engine, bool write, size_t count,
                                const std::function<std::byte*(size_t)>& place) {
    std::vector<Transferred> results(count);
    std::latch open(static_cast<ptrdiff_t>(count));
    std::vector<Request> requests(count);
    for (size_t i = 0; i < count; ++i) {
      requests[i] = {file_, write, i * kAlign, place(i), kAlign, nullptr, [&, i](auto& result) {
                       results[i] = result;
                       open.count_down();
                     }};
    }
    engine.submit(requests);
    open.wait();
    return results;
  }
  static std::byte mark(size_t i) { return static_cast<std::byte>(1 + i % 251); }

  static constexpr size_t kPoolBytes = (kCount + 3) * kAlign;
  std::byte* pool_ = nullptr;
  SharedFile file_;
};

INSTANTIATE_TEST_SUITE_P(Both, SmallTransfers, ::testing::Bool(), [](const auto& info) {
  return std::string(info.param ? "uring" : "threads");
});

TEST_P(SmallTransfers, neighbours_in_a_file_end_up_in_their_own_places) {
  const auto engine = make();
  for (size_t i = 0; i < kCount; ++i) std::memset(in_line(i), static_cast<int>(mark(i)), kAlign);
  const auto line = [this](size_t i) { return in_line(i); };
  for (const auto& result : move(*engine, true, kCount, line)) EXPECT_EQ(result.bytes, kAlign);
  std::memset(pool_, 0, kPoolBytes);
  // Backwards: neighbours in the file are no neighbours in memory.
  const auto backwards = [this](size_t i) { return in_line(kCount - 1 - i); };
  for (const auto& result : move(*engine, false, kCount, backwards)) {
    EXPECT_EQ(result.bytes, kAlign);
    EXPECT_EQ(result.error, 0);
  }
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(*backwards(i), mark(i)) << i;
    EXPECT_EQ(backwards(i)[kAlign - 1], mark(i)) << i;
  }
}

TEST_P(SmallTransfers, the_end_of_a_file_is_the_end_only_for_those_behind_it) {
  const auto engine = make();
  const auto line = [this](size_t i) { return in_line(i); };
  move(*engine, true, kCount / 2, line);
  const auto results = move(*engine, false, kCount, line);
  for (size_t i = 0; i < kCount; ++i) {
    EXPECT_EQ(results[i].bytes, i < kCount / 2 ? kAlign : 0u) << i;
    EXPECT_EQ(results[i].error, 0) << i;
  }
}

TEST_P(SmallTransfers, a_bad_neighbour_fails_alone) {
  const auto engine = make();
  const auto line = [this](size_t i) { return in_line(i); };
  // Nothing is mapped at the first addresses.
  const auto results = move(*engine, true, 20, [&](size_t i) {
    return i == 7 ? reinterpret_cast<std::byte*>(kAlign) : line(i);
  });
  for (size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(results[i].error, i == 7 ? EFAULT : 0) << i;
    EXPECT_EQ(results[i].bytes, i == 7 ? 0u : kAlign) << i;
  }
}

TEST_P(SmallTransfers, announced_memory_is_followed_when_it_is_mapped_afresh) {
  const auto engine = make();
  const auto line = [this](size_t i) { return in_line(i); };
  for (int generation = 1; generation <= 3; ++generation) {
    const uint64_t id = base::announce_memory(pool_, kPoolBytes, kAlign);
    std::memset(pool_, generation, kPoolBytes);
    for (const auto& result : move(*engine, true, kCount, line)) EXPECT_EQ(result.bytes, kAlign);
    std::memset(pool_, 0, kPoolBytes);
    for (const auto& result : move(*engine, false, kCount, line)) EXPECT_EQ(result.bytes, kAlign);
    for (size_t i = 0; i < kCount; ++i) {
      ASSERT_EQ(*line(i), static_cast<std::byte>(generation)) << i;
    }
    base::withdraw_memory(id);
    // The same addresses, other pages.
    ASSERT_EQ(::mmap(pool_, kPoolBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              pool_);
  }
}

TEST_P(SmallTransfers, memory_that_is_too_much_to_lock_is_moved_all_the_same) {
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_MEMLOCK, &before), 0);
  const rlimit none = {0, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_MEMLOCK, &none), 0);
  const uint64_t id = base::announce_memory(pool_, kPoolBytes, kAlign);
  {
    const auto engine = make();
    const auto line = [this](size_t i) { return in_line(i); };
    for (const auto& result : move(*engine, true, kCount, line)) EXPECT_EQ(result.bytes, kAlign);
  }
  base::withdraw_memory(id);
  EXPECT_EQ(::setrlimit(RLIMIT_MEMLOCK, &before), 0);
}

}  // namespace
}  // namespace ucm::io
