// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#include "ucm/page_copy.h"

namespace ucm {
namespace {

constexpr std::byte kUntouched{0xEE};

// Two layers of 12 slots and 3 pages of 2 tokens. A token of the engine has 2 K heads and 2 V heads
// of 6 bytes, one of the pages 4 and 4; every stride is larger than what it holds.
class PageCopiesTest : public ::testing::Test {
 protected:
  static constexpr size_t kHead = 6;
  static constexpr size_t kSlotStride = 4 * kHead + 5;
  static constexpr size_t kSlots = 12;
  static constexpr size_t kEngineLayer = kSlots * kSlotStride + 7;
  static constexpr size_t kTokenStride = 8 * kHead + 3;
  static constexpr size_t kTokens = 2;
  static constexpr size_t kPageLayer = kTokens * kTokenStride + 9;
  static constexpr size_t kLayers = 2;
  static constexpr size_t kPageStride = kLayers * kPageLayer + 11;
  static constexpr size_t kPages = 3;

  void SetUp() override {
    std::mt19937 random(1);
    for (std::byte& each : engine_) each = static_cast<std::byte>(random());
    std::fill(pages_.begin(), pages_.end(), kUntouched);
  }
  // The second of two ranks: its heads lie behind the first one's.
  PageGeometry geometry() {
    return {.engine = engine_.data(),
            .engine_layer_stride = kEngineLayer,
            .engine_slot_stride = kSlotStride,
            .engine_slots = kSlots,
            .pages = pages_.data(),
            .page_stride = kPageStride,
            .page_layer_stride = kPageLayer,
            .page_token_stride = kTokenStride,
            .page_count = kPages,
            .page_tokens = kTokens,
            .layers = kLayers,
            .parts = {{0, 2 * kHead, 2 * kHead}, {2 * kHead, 6 * kHead, 2 * kHead}}};
  }
  std::unique_ptr<PageCopier> open(const PageGeometry& geometry) {
    auto made = PageCopier::make(open_device("cpu", 0).value(), geometry, 2);
    EXPECT_TRUE(made.ok()) << made.status().to_string();
    return made.ok() ? std::move(made).value() : nullptr;
  }
  static Status run(PageCopier* copier, Direction direction, const std::vector<int64_t>& slots,
                    const std::vector<int32_t>& pages, uint32_t first = 0, uint32_t layers = 2,
                    uintptr_t event = 0) {
    return copier->copy(direction, slots, pages, first, layers, event)
        ->wait(std::chrono::seconds(20));
  }
  std::byte* slot(size_t layer, int64_t number) {
    return &engine_[layer * kEngineLayer + static_cast<size_t>(number) * kSlotStride];
  }
  std::byte* token(int32_t page, size_t layer, size_t number) {
    return &pages_[static_cast<size_t>(page) * kPageStride + layer * kPageLayer +
                   number * kTokenStride];
  }
  // What the pages must hold after a dump, byte by byte.
  std::vector<std::byte> dumped(const std::vector<int64_t>& slots,
                                const std::vector<int32_t>& pages, size_t first, size_t layers) {
    const std::vector<std::byte> now = pages_;
    std::fill(pages_.begin(), pages_.end(), kUntouched);
    for (size_t i = 0; i < pages.size(); ++i) {
      for (size_t layer = first; pages[i] >= 0 && layer < first + layers; ++layer) {
        for (size_t t = 0; t < kTokens; ++t) {
          const std::byte* from = slot(layer, slots[i * kTokens + t]);
          std::byte* to = token(pages[i], layer, t);
          std::copy_n(from, 2 * kHead, to + 2 * kHead);
          std::copy_n(from + 2 * kHead, 2 * kHead, to + 6 * kHead);
        }
      }
    }
    std::vector<std::byte> wanted = now;
    wanted.swap(pages_);
    return wanted;
  }

  std::vector<std::byte> engine_ = std::vector<std::byte>(kLayers * kEngineLayer);
  std::vector<std::byte> pages_ = std::vector<std::byte>(kPages * kPageStride);
};

TEST_F(PageCopiesTest, a_dump_fills_the_parts_of_this_rank_and_touches_nothing_else) {
  const auto copier = open(geometry());
  const std::vector<int64_t> slots = {11, 0, 5, 4, 2, 9};
  const std::vector<int32_t> pages = {2, -1, 0};
  const std::vector<std::byte> before = engine_;
  ASSERT_TRUE(run(copier.get(), Direction::dump, slots, pages).ok());
  EXPECT_EQ(pages_, dumped(slots, pages, 0, 2));
  EXPECT_EQ(engine_, before);
}

TEST_F(PageCopiesTest, a_load_brings_back_what_a_dump_took_into_other_slots) {
  const auto copier = open(geometry());
  ASSERT_TRUE(run(copier.get(), Direction::dump, {1, 2, 3, 4}, {0, 1}).ok());
  const std::vector<std::byte> before = engine_;
  ASSERT_TRUE(run(copier.get(), Direction::load, {7, 10, 0, 11}, {1, 0}).ok());
  std::vector<std::byte> wanted = before;
  const size_t moves[][2] = {{3, 7}, {4, 10}, {1, 0}, {2, 11}};
  for (const auto& [from, to] : moves) {
    for (size_t layer = 0; layer < kLayers; ++layer) {
      const size_t at = layer * kEngineLayer;
      std::copy_n(&before[at + from * kSlotStride], 4 * kHead, &wanted[at + to * kSlotStride]);
    }
  }
  EXPECT_EQ(engine_, wanted);
}

TEST_F(PageCopiesTest, layers_are_copied_alone_and_as_rows_of_their_own) {
  const auto copier = open(geometry());
  ASSERT_TRUE(run(copier.get(), Direction::dump, {6, 7}, {1}, 1, 1).ok());
  EXPECT_EQ(pages_, dumped({6, 7}, {1}, 1, 1));
  const TaskPtr task = copier->copy(Direction::dump, {}, {}, 0, 2, 0);
  EXPECT_EQ(task->rows(), 2u);
  EXPECT_TRUE(task->wait(std::chrono::seconds(20)).ok());
}

TEST_F(PageCopiesTest, whole_tokens_of_one_part_are_copied_as_they_are) {
  PageGeometry mla = geometry();
  mla.page_token_stride = mla.engine_slot_stride;
  mla.parts = {{0, 0, kSlotStride}};
  const auto copier = open(mla);
  ASSERT_TRUE(run(copier.get(), Direction::dump, {3, 4}, {0}, 0, 1).ok());
  // Neighbours on both sides are one piece.
  EXPECT_TRUE(std::equal(slot(0, 3), slot(0, 5), pages_.begin()));
  EXPECT_EQ(pages_[2 * kSlotStride], kUntouched);
}

TEST_F(PageCopiesTest, what_lies_outside_is_refused_before_a_byte_moves) {
  const auto copier = open(geometry());
  const std::vector<std::byte> before = engine_;
  const auto refused = [&](const std::vector<int64_t>& slots, const std::vector<int32_t>& pages,
                           uint32_t first = 0, uint32_t layers = 2) {
    for (const Direction direction : {Direction::load, Direction::dump}) {
      const Status status = run(copier.get(), direction, slots, pages, first, layers);
      EXPECT_EQ(status.code(), Code::invalid_argument) << status.to_string();
    }
  };
  refused({0, 1, 2, static_cast<int64_t>(kSlots)}, {0, 1});
  refused({0, 1, 2, -1}, {0, 1});
  refused({0, 1, 2, 3}, {0, static_cast<int32_t>(kPages)});
  refused({0, 1, 2, 3}, {0, -2});
  refused({0, 1, 2}, {0, 1});
  refused({0, 1}, {0}, 2, 1);
  refused({0, 1}, {0}, 1, 2);
  refused({0, 1}, {0}, 0, 0);
  refused({0, 1}, {0}, 1, UINT32_MAX);  // and takes no memory for that many rows
  EXPECT_EQ(engine_, before);
  EXPECT_TRUE(std::ranges::all_of(pages_, [](std::byte b) { return b == kUntouched; }));
  // Slots of a page that is skipped are nobody's business.
  EXPECT_TRUE(run(copier.get(), Direction::dump, {-5, 99, 0, 1}, {-1, 0}).ok());
}

TEST_F(PageCopiesTest, geometries_that_overlap_or_lack_memory_are_refused) {
  const auto refused = [&](const std::function<void(PageGeometry*)>& change) {
    PageGeometry wrong = geometry();
    change(&wrong);
    const auto made = PageCopier::make(open_device("cpu", 0).value(), wrong, 1);
    EXPECT_EQ(made.status().code(), Code::invalid_argument);
  };
  refused([](PageGeometry* g) { g->engine = nullptr; });
  refused([](PageGeometry* g) { g->pages = nullptr; });
  refused([](PageGeometry* g) { g->layers = 0; });
  refused([](PageGeometry* g) { g->page_tokens = 0; });
  refused([](PageGeometry* g) { g->parts.clear(); });
  refused([](PageGeometry* g) { g->parts[0].bytes = 0; });
  refused([](PageGeometry* g) { g->parts[1].engine_offset = kSlotStride; });
  refused([](PageGeometry* g) { g->parts[1].page_offset = kTokenStride; });
  refused([](PageGeometry* g) { g->page_token_stride = kPageLayer; });
  refused([](PageGeometry* g) { g->page_layer_stride = kPageStride; });
  refused([](PageGeometry* g) { ++g->engine_slots; });
  EXPECT_EQ(PageCopier::make(nullptr, geometry(), 1).status().code(), Code::invalid_argument);
  EXPECT_EQ(PageCopier::make(open_device("cpu", 0).value(), geometry(), 0).status().code(),
            Code::invalid_argument);
}

TEST_F(PageCopiesTest, an_event_the_device_does_not_know_fails_every_layer) {
  const auto copier = open(geometry());
  const TaskPtr task =
      copier->copy(Direction::dump, std::vector<int64_t>{0, 1}, std::vector<int32_t>{0}, 0, 2, 77);
  EXPECT_EQ(task->wait(std::chrono::seconds(20)).code(), Code::invalid_argument);
  EXPECT_EQ(task->failed_rows(), (std::vector<uint32_t>{0, 1}));
  EXPECT_EQ(pages_[2 * kHead], kUntouched);
}

}  // namespace
}  // namespace ucm
