// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "io/flat_json.h"
#include "pages/bucket_table.h"
#include "pages/free_slots.h"
#include "pages/store_format.h"
#include "test_blocks.h"

namespace ucm::pages {
namespace {

StoreFormat sample() {
  StoreFormat format;
  format.uuid = {0x0123456789abcdef, 0xfedcba9876543210};
  format.slot_bytes = 2 << 20;
  format.segment_slots = 512;
  format.capacity_slots = 1000;
  format.layouts = {7, 0xfedcba9876543210};
  return format;
}

TEST(StoreFormat, is_read_back_as_it_was_written) {
  const auto parsed = parse_format(format_text(sample()));
  ASSERT_TRUE(parsed.ok()) << parsed.status().to_string();
  EXPECT_EQ(parsed.value().uuid, sample().uuid);
  EXPECT_EQ(parsed.value().slot_bytes, sample().slot_bytes);
  EXPECT_EQ(parsed.value().segment_slots, sample().segment_slots);
  EXPECT_EQ(parsed.value().capacity_slots, sample().capacity_slots);
  EXPECT_EQ(parsed.value().layouts, sample().layouts);
}

TEST(StoreFormat, every_cut_of_the_text_is_corruption) {
  const std::string text = format_text(sample());
  for (size_t length = 0; length + 2 < text.size(); ++length) {
    const auto parsed = parse_format(std::string_view(text).substr(0, length));
    ASSERT_FALSE(parsed.ok()) << length;
    EXPECT_EQ(parsed.status().code(), Code::corruption);
  }
}

TEST(StoreFormat, values_out_of_range_are_corruption) {
  for (const char* change : {"\"slot_bytes\": 0", "\"slot_bytes\": 4097", "\"capacity_slots\": 0",
                             "\"segment_slots\": 99999999999", "\"alignment\": 512",
                             "\"format\": \"other\"", "\"uuid\": \"12\""}) {
    const std::string key(change, std::string_view(change).find(':'));
    std::string text = format_text(sample());
    const size_t at = text.find(key);
    ASSERT_NE(at, std::string::npos);
    text.replace(at, text.find_first_of(",\n}", at) - at, change);
    EXPECT_EQ(parse_format(text).status().code(), Code::corruption) << text;
  }
}

TEST(StoreFormat, random_bytes_and_random_changes_never_crash_the_parser) {
  std::mt19937 random(11);
  const std::string good = format_text(sample());
  for (int round = 0; round < 20000; ++round) {
    std::string text = good;
    if (round % 2 == 0) {
      text.resize(random() % 300);
      for (char& c : text) c = static_cast<char>(random());
    } else {
      for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    }
    const auto parsed = parse_format(text);
    if (parsed.ok()) {
      EXPECT_GT(parsed.value().slot_bytes, 0u);
      EXPECT_GT(parsed.value().segment_slots, 0u);
    }
  }
}

TEST(FlatJson, takes_texts_and_whole_numbers_only) {
  EXPECT_TRUE(io::parse_flat_json("{}").ok());
  EXPECT_TRUE(io::parse_flat_json(" { \"a\" : 1 , \"b\" : \"x\\\"y\" } ").ok());
  for (const char* bad : {"", "{", "[]", "{\"a\":-1}", "{\"a\":1.5}", "{\"a\":null}", "{\"a\":1,}",
                          "{\"a\":1}x", "{\"a\":1,\"a\":2}", "{\"a\":12345678901234567890}"}) {
    EXPECT_EQ(io::parse_flat_json(bad).status().code(), Code::corruption) << bad;
  }
}

// A table over entries in memory, with more keys than a real one holds in a chain.
class BucketTableTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kSlots = 500;
  BucketTableTest()
      : memory_(BucketTable::bytes_for(kSlots)),
        entries_(new SharedEntry[kSlots]),
        table_(memory_.data(), kSlots, entries_.get()) {
    table_.reset(1);
    for (uint64_t i = 0; i < kSlots; ++i) entries_[i].store(PackedEntry());
  }
  void insert(uint32_t slot, const BlockKey& key) {
    IndexEntry entry;
    entry.key = key;
    entry.slot = slot;
    entries_[slot].store(PackedEntry::pack(entry, 0, 1));
    table_.insert(key, slot);
  }
  void erase(uint32_t slot) {
    table_.erase(entries_[slot].key(), slot);
    entries_[slot].clear();
  }

  std::vector<std::byte> memory_;
  std::unique_ptr<SharedEntry[]> entries_;
  BucketTable table_;
};

TEST_F(BucketTableTest, finds_what_is_in_it_through_inserts_and_removals) {
  std::mt19937 random(5);
  std::vector<uint64_t> held(kSlots, 0);  // number + 1 of the key in each slot
  for (int step = 0; step < 20000; ++step) {
    const auto slot = static_cast<uint32_t>(random() % kSlots);
    if (held[slot] != 0) {
      erase(slot);
      held[slot] = 0;
    } else {
      held[slot] = static_cast<uint64_t>(step) + 1;
      insert(slot, test::make_key(held[slot]));
    }
    if (step % 97 != 0) continue;
    for (uint32_t i = 0; i < kSlots; ++i) {
      const uint64_t number = held[i] != 0 ? held[i] : static_cast<uint64_t>(step) + 1000000 + i;
      ASSERT_EQ(table_.find(test::make_key(number)), held[i] != 0 ? i : BucketTable::kNone);
    }
  }
}

TEST_F(BucketTableTest, random_cells_hide_keys_but_show_no_wrong_ones) {
  insert(3, test::make_key(3));
  std::mt19937 random(9);
  for (size_t i = BucketTable::kHeaderBytes; i < memory_.size(); ++i) {
    memory_[i] = static_cast<std::byte>(random());
  }
  for (uint64_t number = 0; number < 2000; ++number) {
    const uint32_t slot = table_.find(test::make_key(number));
    EXPECT_TRUE(slot == BucketTable::kNone || (slot == 3 && number == 3));
  }
}

TEST_F(BucketTableTest, has_room_for_every_slot_and_one_more_whatever_their_number) {
  for (uint64_t slots = 1; slots < 5000; ++slots) {
    ASSERT_GT(BucketTable::cells_for(slots), slots);
  }
}

TEST(PackedEntry, is_read_back_as_it_was_written_in_its_place_only) {
  const LayoutList layouts = {99, 7};
  const IndexEntry entry = {test::make_key(4), 5, 12345, 7, 0x1122334455667788, 77, 99};
  const PackedEntry packed = PackedEntry::pack(entry, layout_number(layouts, 7), 31);
  IndexEntry back;
  ASSERT_TRUE(packed.unpack(5, layouts, 31, &back));
  EXPECT_EQ(back, entry);
  EXPECT_EQ(back.use, 99u);
  EXPECT_FALSE(packed.unpack(6, layouts, 31, &back)) << "another slot";
  EXPECT_FALSE(packed.unpack(5, layouts, 32, &back)) << "another store";
  EXPECT_FALSE(packed.unpack(5, {99, 8}, 31, &back)) << "another layout of that number";
  EXPECT_FALSE(packed.unpack(5, {99}, 31, &back)) << "a number that is not listed";
}

TEST(FreeSlots, gives_each_slot_once_upwards_and_around) {
  FreeSlots free(10000);
  std::mt19937 random(6);
  std::set<uint32_t> model;
  uint32_t last = 0;
  for (int step = 0; step < 50000; ++step) {
    const auto slot = static_cast<uint32_t>(random() % 10000);
    if (random() % 2 == 0 && model.insert(slot).second) free.add(slot);
    ASSERT_EQ(free.size(), model.size());
    if (random() % 3 == 0 || model.empty()) continue;
    const auto next = model.lower_bound(last);
    const uint32_t expected = next == model.end() ? *model.begin() : *next;
    ASSERT_EQ(free.take(), expected);
    model.erase(expected);
    last = expected + 1;
  }
}

}  // namespace
}  // namespace ucm::pages
