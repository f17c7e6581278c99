// SPDX-License-Identifier: Apache-2.0
// Whole pages between an engine's KV buffer on a device and registered CPU pages: right bytes, in
// the order of the engine's events, on streams of the copier.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <numeric>
#include <random>

#include "device_pages.h"
#include "ucm/page_copy.h"

namespace ucm::test {
namespace {

// 3 layers of 40 slots, 8 pages of 4 tokens; this rank has 2 of 4 K heads and 2 of 4 V heads.
constexpr size_t kHeadBytes = 192;
constexpr size_t kSlotBytes = 4 * kHeadBytes;
constexpr size_t kTokenBytes = 8 * kHeadBytes;
constexpr size_t kSlotCount = 40;
constexpr size_t kPageTokens = 4;
constexpr size_t kLayerCount = 3;
constexpr size_t kPageCount = 8;
constexpr size_t kEngineBytes = kLayerCount * kSlotCount * kSlotBytes;
constexpr size_t kPageBytes = kLayerCount * kPageTokens * kTokenBytes;

class DevicePageCopiesTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto opened = open_device(GetParam(), 0);
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    device_ = opened.value();
    side_ = make_side();
    ASSERT_TRUE(device_->bind_thread().ok());
    pages_ = static_cast<std::byte*>(mmap(nullptr, kPageCount * kPageBytes, PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    ASSERT_TRUE(device_->register_host(pages_, kPageCount * kPageBytes).ok());
    engine_ = side_->alloc(kEngineBytes);
    stage_ = side_->alloc(kEngineBytes);
    PageGeometry geometry{
        .engine = engine_,
        .engine_layer_stride = kSlotCount * kSlotBytes,
        .engine_slot_stride = kSlotBytes,
        .engine_slots = kSlotCount,
        .pages = pages_,
        .page_stride = kPageBytes,
        .page_layer_stride = kPageTokens * kTokenBytes,
        .page_token_stride = kTokenBytes,
        .page_count = kPageCount,
        .page_tokens = kPageTokens,
        .layers = kLayerCount,
        .parts = {{0, 0, 2 * kHeadBytes}, {2 * kHeadBytes, 4 * kHeadBytes, 2 * kHeadBytes}}};
    auto made = PageCopier::make(device_, std::move(geometry), 2);
    ASSERT_TRUE(made.ok()) << made.status().to_string();
    copier_ = std::move(made).value();
  }
  void TearDown() override {
    copier_.reset();
    side_->free(engine_);
    side_->free(stage_);
    EXPECT_TRUE(device_->unregister_host(pages_).ok());
    munmap(pages_, kPageCount * kPageBytes);
    device_.reset();
    EXPECT_EQ(side_->mistakes(), std::vector<std::string>());
  }

  static std::byte value(uint64_t round, size_t at) {
    return static_cast<std::byte>((at * 0x9E3779B1u + round * 131) >> 7);
  }
  // Late, on the engine's stream, as a kernel would do it.
  void compute(uint64_t round, const EngineStream& engine) {
    side_->synchronize(engine.stream());
    std::vector<std::byte> host(kEngineBytes);
    for (size_t at = 0; at < host.size(); ++at) host[at] = value(round, at);
    side_->write(stage_, host.data(), host.size());
    side_->copy_inside(engine_, stage_, kEngineBytes, engine.stream());
  }
  std::vector<std::byte> read_engine() {
    std::vector<std::byte> host(kEngineBytes);
    side_->read(host.data(), engine_, host.size());
    return host;
  }
  static size_t in_engine(size_t layer, int64_t slot) {
    return (layer * kSlotCount + static_cast<size_t>(slot)) * kSlotBytes;
  }
  // Wrong bytes of a page of this rank, foreign heads included: those stay as they were.
  size_t wrong_in_page(int32_t page, const int64_t* slots, uint64_t round, std::byte foreign) {
    size_t wrong = 0;
    for (size_t layer = 0; layer < kLayerCount; ++layer) {
      for (size_t t = 0; t < kPageTokens; ++t) {
        const std::byte* token = pages_ + static_cast<size_t>(page) * kPageBytes +
                                 (layer * kPageTokens + t) * kTokenBytes;
        for (size_t at = 0; at < kTokenBytes; ++at) {
          const size_t half = at / (4 * kHeadBytes);
          const size_t within = at % (4 * kHeadBytes);
          const bool own = within < 2 * kHeadBytes;
          const size_t from = in_engine(layer, slots[t]) + half * 2 * kHeadBytes + within;
          wrong += token[at] != (own ? value(round, from) : foreign);
        }
      }
    }
    return wrong;
  }

  std::shared_ptr<Device> device_;
  std::unique_ptr<DeviceSide> side_;
  std::unique_ptr<PageCopier> copier_;
  std::byte* pages_ = nullptr;
  std::byte* engine_ = nullptr;
  std::byte* stage_ = nullptr;
};

TEST_P(DevicePageCopiesTest, PagesHoldWhatTheEnginesStreamHadComputedAtTheEvent) {
  EngineStream engine(side_.get());
  std::mt19937_64 random(5);
  for (uint64_t round = 0; round < 6; ++round) {
    std::vector<int64_t> slots(kSlotCount);
    std::iota(slots.begin(), slots.end(), 0);
    std::shuffle(slots.begin(), slots.end(), random);
    slots.resize(3 * kPageTokens);
    const std::vector<int32_t> pages = {static_cast<int32_t>(round), -1, 7};
    std::memset(pages_, 0x5A, kPageCount * kPageBytes);
    compute(round, engine);
    const TaskPtr task =
        copier_->copy(Direction::dump, slots, pages, 0, kLayerCount, engine.mark());
    ASSERT_TRUE(task->wait(kPatience).ok());
    EXPECT_EQ(wrong_in_page(pages[0], slots.data(), round, std::byte{0x5A}), 0u);
    EXPECT_EQ(wrong_in_page(7, slots.data() + 2 * kPageTokens, round, std::byte{0x5A}), 0u);
    EXPECT_EQ(pages_[6 * kPageBytes], std::byte{0x5A}) << "a page nobody named";
  }
}

TEST_P(DevicePageCopiesTest, ALoadFillsTheSlotsItNamesAndNoOthers) {
  EngineStream engine(side_.get());
  compute(1, engine);
  std::vector<int64_t> from(2 * kPageTokens);
  std::iota(from.begin(), from.end(), 3);
  ASSERT_TRUE(
      copier_
          ->copy(Direction::dump, from, std::vector<int32_t>{2, 5}, 0, kLayerCount, engine.mark())
          ->wait(kPatience)
          .ok());
  compute(2, engine);
  const std::vector<int64_t> to = {20, 39, 0, 12, 31, 30, 29, 28};
  for (size_t layer = kLayerCount; layer-- > 0;) {
    // Layer by layer, and in an order of the caller's.
    ASSERT_TRUE(copier_
                    ->copy(Direction::load, to, std::vector<int32_t>{2, 5},
                           static_cast<uint32_t>(layer), 1, engine.mark())
                    ->wait(kPatience)
                    .ok());
  }
  std::vector<std::byte> wanted(kEngineBytes);
  for (size_t at = 0; at < wanted.size(); ++at) wanted[at] = value(2, at);
  for (size_t layer = 0; layer < kLayerCount; ++layer) {
    for (size_t t = 0; t < to.size(); ++t) {
      for (size_t at = 0; at < kSlotBytes; ++at) {
        wanted[in_engine(layer, to[t]) + at] = value(1, in_engine(layer, from[t]) + at);
      }
    }
  }
  EXPECT_EQ(read_engine(), wanted);
}

TEST_P(DevicePageCopiesTest, ClosingEndsWhatWasStarted) {
  EngineStream engine(side_.get());
  compute(3, engine);
  std::vector<int64_t> slots(kPageTokens);
  std::iota(slots.begin(), slots.end(), 0);
  std::vector<TaskPtr> tasks;
  for (int32_t page = 0; page < static_cast<int32_t>(kPageCount); ++page) {
    tasks.push_back(copier_->copy(Direction::dump, slots, std::vector<int32_t>{page}, 0,
                                  kLayerCount, engine.mark()));
  }
  copier_.reset();
  for (int32_t page = 0; page < static_cast<int32_t>(kPageCount); ++page) {
    ASSERT_TRUE(tasks[static_cast<size_t>(page)]->done());
    EXPECT_EQ(wrong_in_page(page, slots.data(), 3, std::byte{0}), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, DevicePageCopiesTest, ::testing::ValuesIn(device_platforms()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ucm::test
