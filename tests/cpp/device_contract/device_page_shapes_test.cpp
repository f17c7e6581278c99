// SPDX-License-Identifier: Apache-2.0
// Whole pages between LightLLM's KV buffer on a device and its CPU pages: (layers, slots, heads) on
// the device, (pages, layers, tokens, heads) on the host, one task a layer.
#include <sys/mman.h>

#include <cstring>

#include "device_pages.h"
#include "ucm/page_copy.h"

namespace ucm::test {
namespace {

constexpr size_t kLayers = 3;
constexpr size_t kSlots = 96;
constexpr size_t kPages = 8;
constexpr size_t kTokensOfAPage = 8;
constexpr size_t kOddHeadBytes = 48;  // no multiple of what a lane of a kernel copies

// How the tokens of a model lie on both sides.
struct Shape {
  const char* name;
  size_t engine_heads;  // K heads, then V heads; of this rank
  size_t page_heads;    // of all ranks
  std::vector<TokenPart> parts;
};

const Shape kShapes[] = {
    {"OneRank", 4, 4, {{0, 0, 4 * kOddHeadBytes}}},
    {"SecondOfTwoRanks",
     4,
     8,
     {{0, 2 * kOddHeadBytes, 2 * kOddHeadBytes},
      {2 * kOddHeadBytes, 6 * kOddHeadBytes, 2 * kOddHeadBytes}}},
    {"Mla", 1, 1, {{0, 0, kOddHeadBytes}}},
};

class DevicePageCopyTest : public ::testing::TestWithParam<std::tuple<std::string, const Shape*>> {
 protected:
  void SetUp() override {
    side_ = make_side();
    auto opened = open_device(std::get<0>(GetParam()), 0);
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    device_ = opened.value();
    const Shape& shape = *std::get<1>(GetParam());
    PageGeometry& g = geometry_;
    g.engine_slot_stride = shape.engine_heads * kOddHeadBytes;
    g.engine_layer_stride = g.engine_slot_stride * kSlots;
    g.engine_slots = kSlots;
    g.page_token_stride = shape.page_heads * kOddHeadBytes;
    g.page_layer_stride = g.page_token_stride * kTokensOfAPage;
    g.page_stride = g.page_layer_stride * kLayers;
    g.page_count = kPages;
    g.page_tokens = kTokensOfAPage;
    g.layers = kLayers;
    g.parts = shape.parts;
    far_bytes_ = g.engine_layer_stride * kLayers;
    near_bytes_ = (g.page_stride * kPages + 4095) / 4096 * 4096;
    g.engine = far_ = side_->alloc(far_bytes_);
    void* memory =
        mmap(nullptr, near_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g.pages = near_ = static_cast<std::byte*>(memory);
    ASSERT_TRUE(device_->register_host(near_, near_bytes_).ok());
    for (size_t i = 0; i < kPages * kTokensOfAPage; ++i) {
      slots_.push_back(static_cast<int64_t>((i * 35 + 11) % kSlots));
    }
  }
  void TearDown() override {
    EXPECT_TRUE(device_->unregister_host(near_).ok());
    munmap(near_, near_bytes_);
    side_->free(far_);
    EXPECT_EQ(side_->mistakes(), std::vector<std::string>());
  }

  // Byte i of a part of a token.
  static std::byte value(size_t layer, size_t token, size_t part, size_t i) {
    return static_cast<std::byte>((layer * 131 + token * 31 + part * 17 + i * 7 + 5) & 0xFF);
  }
  template <typename Visit>
  void each_byte(const std::vector<int32_t>& pages, size_t layer, Visit visit) const {
    const PageGeometry& g = geometry_;
    for (size_t t = 0; t < pages.size() * kTokensOfAPage; ++t) {
      const int32_t page = pages[t / kTokensOfAPage];
      if (page < 0) continue;
      const size_t slot = static_cast<size_t>(slots_[t]);
      for (size_t p = 0; p < g.parts.size(); ++p) {
        const size_t far =
            layer * g.engine_layer_stride + slot * g.engine_slot_stride + g.parts[p].engine_offset;
        const size_t near = static_cast<size_t>(page) * g.page_stride +
                            layer * g.page_layer_stride + t % kTokensOfAPage * g.page_token_stride +
                            g.parts[p].page_offset;
        for (size_t i = 0; i < g.parts[p].bytes; ++i)
          visit(far + i, near + i, value(layer, t, p, i));
      }
    }
  }
  std::span<const int64_t> slots(const std::vector<int32_t>& pages) const {
    return std::span(slots_).first(pages.size() * kTokensOfAPage);
  }

  std::unique_ptr<DeviceSide> side_;
  std::shared_ptr<Device> device_;
  PageGeometry geometry_;
  std::byte* far_ = nullptr;
  std::byte* near_ = nullptr;
  size_t far_bytes_ = 0;
  size_t near_bytes_ = 0;
  std::vector<int64_t> slots_;
};

TEST_P(DevicePageCopyTest, PagesGoDownAndComeBackLayerByLayer) {
  const std::vector<int32_t> pages = {5, 0, -1, 7, 2};
  auto copier = PageCopier::make(device_, geometry_, 1).value();
  std::vector<std::byte> far(far_bytes_, std::byte{0x55});
  for (size_t layer = 0; layer < kLayers; ++layer) {
    each_byte(pages, layer, [&](size_t at, size_t, std::byte byte) { far[at] = byte; });
  }
  side_->write(far_, far.data(), far.size());
  std::memset(near_, 0xAA, near_bytes_);
  std::vector<std::byte> expected(near_bytes_, std::byte{0xAA});
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const TaskPtr task = copier->copy(Direction::dump, slots(pages), pages, layer, 1, 0);
    ASSERT_TRUE(task->wait(kPatience).ok()) << task->status().to_string();
    each_byte(pages, layer, [&](size_t, size_t at, std::byte byte) { expected[at] = byte; });
    ASSERT_EQ(std::memcmp(near_, expected.data(), near_bytes_), 0) << layer;
  }
  // Back into an empty buffer, on a stream of the engine that waits in the host's place.
  std::vector<std::byte> empty(far_bytes_, std::byte{0x55});
  side_->write(far_, empty.data(), empty.size());
  std::byte* seen = side_->alloc(far_bytes_);
  EngineStream compute(side_.get());
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    const TaskPtr task =
        copier->copy(Direction::load, slots(pages), pages, layer, 1, compute.mark());
    ASSERT_TRUE(task->wait_started(kPatience).ok());
    ASSERT_TRUE(task->order_stream(compute.stream()).ok());
    side_->copy_inside(seen, far_, far_bytes_, compute.stream());
    side_->synchronize(compute.stream());
    std::vector<std::byte> host(far_bytes_);
    side_->read(host.data(), seen, far_bytes_);
    each_byte(pages, layer, [&](size_t at, size_t, std::byte byte) { empty[at] = byte; });
    EXPECT_EQ(std::memcmp(host.data(), empty.data(), far_bytes_), 0) << layer;
    EXPECT_TRUE(task->wait(kPatience).ok());
  }
  side_->free(seen);
}

std::vector<const Shape*> shapes() {
  std::vector<const Shape*> all;
  for (const Shape& shape : kShapes) all.push_back(&shape);
  return all;
}

INSTANTIATE_TEST_SUITE_P(Devices, DevicePageCopyTest,
                         ::testing::Combine(::testing::ValuesIn(device_platforms()),
                                            ::testing::ValuesIn(shapes())),
                         [](const auto& info) {
                           return std::get<0>(info.param) + std::get<1>(info.param)->name;
                         });

}  // namespace
}  // namespace ucm::test
