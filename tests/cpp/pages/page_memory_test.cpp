// SPDX-License-Identifier: Apache-2.0
#include <malloc.h>
#include <unistd.h>

#include "io/paths.h"
#include "page_fixture.h"
#include "pages/page_index.h"

namespace ucm {
namespace {

using test::make_key;
using test::make_keys;
using test::open_pages;

constexpr uint64_t kManyBlocks = 200'000;
constexpr uint32_t kSlotBytes = 4096;
constexpr double kMostBytesABlock = 64;

// A store that is full of blocks whose payloads were never written: only the index is of interest.
class PageMemoryTest : public test::PageTest, public ::testing::WithParamInterface<const char*> {
 protected:
  PageStoreOptions all_of_it() const {
    PageStoreOptions wanted = options(kManyBlocks, kSlotBytes);
    wanted.segment_bytes = kManyBlocks * kSlotBytes;
    wanted.eviction_policy = GetParam();
    wanted.eviction_high = wanted.eviction_low = 1;
    return wanted;
  }

  void fill_index() const {
    ASSERT_TRUE(open_pages(all_of_it())->close(std::chrono::seconds(10)));
    const auto text = io::read_small_file(io::join(path(), pages::kFormatName));
    const auto format = pages::parse_format(text.value());
    ASSERT_TRUE(format.ok());
    pages::Recovered recovered;
    const auto index = pages::PageIndex::open_writable(
        path(), format.value(), 0600, kManyBlocks, [](uint32_t) { return true; }, &recovered);
    ASSERT_TRUE(index.ok());
    for (uint32_t slot = 0; slot < kManyBlocks; ++slot) {
      pages::IndexEntry entry;
      entry.key = make_key(slot);
      entry.slot = slot;
      entry.length = kSlotBytes;
      entry.written = entry.use = 1 + slot;
      index.value()->publish(entry);
    }
    std::filesystem::resize_file(path() + "/seg-00000", kManyBlocks * kSlotBytes);
  }

  static uint64_t allocated() {
    const struct mallinfo2 now = ::mallinfo2();
    return now.uordblks + now.hblkhd;
  }
  // What the process has beyond `before`, and the files that are mapped.
  double bytes_a_block(uint64_t before) const {
    const uint64_t mapped = std::filesystem::file_size(path() + "/index") +
                            std::filesystem::file_size(path() + "/table");
    // Large allocations end with a page; with pages of more than 4 KiB that is not the index's
    // doing.
    const auto rounding = 2 * (static_cast<uint64_t>(::getpagesize()) - 4096);
    const uint64_t bytes = allocated() - before + mapped - rounding;
    return static_cast<double>(bytes) / static_cast<double>(kManyBlocks);
  }
};

TEST_P(PageMemoryTest, a_block_takes_64_bytes_of_index_and_policy_at_most) {
  fill_index();
  ASSERT_FALSE(HasFatalFailure());
  const uint64_t before = allocated();
  const auto store = open_pages(all_of_it());
  ASSERT_EQ(store->stats().blocks, kManyBlocks);
  EXPECT_LE(bytes_a_block(before), kMostBytesABlock);
  EXPECT_LE(static_cast<double>(store->stats().memory_bytes) / kManyBlocks, kMostBytesABlock);
  // Nor does anything pile up when blocks are used and leave.
  const auto keys = make_keys(0, kManyBlocks);
  store->touch(keys);
  ASSERT_TRUE(store->remove(std::span(keys).first(kManyBlocks / 2)).ok());
  EXPECT_EQ(store->stats().blocks, kManyBlocks / 2);
  const uint64_t held = keys.capacity() * sizeof(BlockKey);
  EXPECT_LE(bytes_a_block(before + held), kMostBytesABlock);
}

INSTANTIATE_TEST_SUITE_P(Policies, PageMemoryTest,
                         ::testing::Values("auto", "lru", "arc", "lru2", "s3fifo"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace ucm
