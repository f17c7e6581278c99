// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <map>
#include <random>
#include <thread>

#include "page_fixture.h"
#include "pages/store_format.h"

namespace ucm {
namespace {

namespace fs = std::filesystem;
using test::count_pages;
using test::dump_pages;
using test::load_pages;
using test::make_keys;
using test::open_pages;

constexpr uint64_t kBlocks = 40;
constexpr size_t kHeader = 4096;
constexpr size_t kEntry = 40;

class PageDamageTest : public test::PageTest {
 protected:
  std::string file(const std::string& name) const { return path() + "/" + name; }

  // Stores kBlocks blocks in three segments and closes.
  void store_blocks() { dump_pages(*open_pages(options(64)), make_keys(0, kBlocks)); }

  static std::string contents(const std::string& name) {
    std::ifstream in(name, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void rewrite(const std::string& name, const std::string& bytes) {
    std::ofstream(name, std::ios::binary | std::ios::trunc) << bytes;
  }
  // Writes over a part of a file.
  static void patch(const std::string& name, size_t offset, const std::string& bytes) {
    std::fstream out(name, std::ios::binary | std::ios::in | std::ios::out);
    out.seekp(static_cast<std::streamoff>(offset));
    out << bytes;
  }

  // Opens again and loads everything: wrong bytes never, a load that fails is a miss afterwards,
  // and the store takes the lost blocks again. Answers how many blocks had survived.
  size_t survivors(uint64_t* dropped = nullptr) {
    const auto store = open_pages(options(64));
    if (!store) return 0;
    const auto keys = make_keys(0, kBlocks);
    const auto loaded = load_pages(*store, keys);
    EXPECT_EQ(loaded.wrong, 0u);
    for (const Status& status : loaded.statuses) {
      EXPECT_TRUE(status.ok() || status.code() == Code::not_found ||
                  status.code() == Code::corruption)
          << status.to_string();
    }
    EXPECT_EQ(count_pages(*store, keys), loaded.right) << "what can not be loaded is not there";
    if (dropped) {
      *dropped = 0;
      for (const auto& [cause, count] : store->stats().dropped) *dropped += count;
    }
    for (const Status& status : dump_pages(*store, keys)) EXPECT_TRUE(status.ok());
    EXPECT_EQ(load_pages(*store, keys).right, kBlocks);
    return loaded.right;
  }
};

TEST_F(PageDamageTest, a_flipped_byte_of_a_payload_costs_that_block) {
  store_blocks();
  patch(file("seg-00000"), 3 * 8192 + 100, "x");
  uint64_t dropped = 0;
  EXPECT_EQ(survivors(&dropped), kBlocks - 1);
  EXPECT_EQ(dropped, 1u);
}

TEST_F(PageDamageTest, a_zeroed_block_is_a_miss) {
  store_blocks();
  patch(file("seg-00001"), 5 * 8192, std::string(8192, '\0'));
  uint64_t dropped = 0;
  EXPECT_EQ(survivors(&dropped), kBlocks - 1);
  EXPECT_EQ(dropped, 1u);
}

TEST_F(PageDamageTest, two_swapped_blocks_are_two_misses) {
  store_blocks();
  const std::string bytes = contents(file("seg-00000"));
  patch(file("seg-00000"), 0, bytes.substr(8192, 8192));
  patch(file("seg-00000"), 8192, bytes.substr(0, 8192));
  EXPECT_EQ(survivors(), kBlocks - 2);
}

TEST_F(PageDamageTest, two_swapped_index_entries_are_two_misses) {
  store_blocks();
  const std::string bytes = contents(file("index"));
  patch(file("index"), kHeader, bytes.substr(kHeader + kEntry, kEntry));
  patch(file("index"), kHeader + kEntry, bytes.substr(kHeader, kEntry));
  EXPECT_EQ(survivors(), kBlocks - 2);
}

TEST_F(PageDamageTest, a_truncated_segment_costs_the_blocks_behind_the_cut) {
  store_blocks();
  fs::resize_file(file("seg-00000"), 4 * 8192 + 1000);
  uint64_t dropped = 0;
  EXPECT_EQ(survivors(&dropped), kBlocks - 12);
  EXPECT_EQ(dropped, 12u);
}

TEST_F(PageDamageTest, a_segment_truncated_while_open_is_a_miss) {
  const auto store = open_pages(options(64));
  dump_pages(*store, make_keys(0, kBlocks));
  fs::resize_file(file("seg-00001"), 0);
  const auto loaded = load_pages(*store, make_keys(0, kBlocks));
  EXPECT_EQ(loaded.wrong, 0u);
  EXPECT_EQ(loaded.right, kBlocks - 16);
  EXPECT_EQ(store->stats().dropped["truncated"], 16u);
}

TEST_F(PageDamageTest, a_deleted_segment_costs_its_blocks) {
  store_blocks();
  fs::remove(file("seg-00001"));
  EXPECT_EQ(survivors(), kBlocks - 16);
}

TEST_F(PageDamageTest, a_foreign_file_in_place_of_a_segment_is_a_miss) {
  store_blocks();
  rewrite(file("seg-00002"), std::string(16 * 8192, 'f'));
  EXPECT_EQ(survivors(), 32u);
}

TEST_F(PageDamageTest, a_deleted_index_is_an_empty_store) {
  store_blocks();
  fs::remove(file("index"));
  EXPECT_EQ(survivors(), 0u);
}

TEST_F(PageDamageTest, of_two_entries_of_one_key_the_younger_one_counts) {
  // After a power loss the entry of a removed block can be back, whose slot serves another one.
  const auto key = make_keys(0, 1);
  std::string index;
  {
    const auto store = open_pages(options(64));
    dump_pages(*store, key);
    index = contents(file("index"));
    ASSERT_TRUE(store->remove(key).ok());
    // Publications are told apart by the quarter of a second.
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    dump_pages(*store, make_keys(1, 4));
    dump_pages(*store, key);
  }
  patch(file("index"), kHeader, index.substr(kHeader, kEntry));
  patch(file("seg-00000"), 0, std::string(8192, 'x'));
  const auto store = open_pages(options(64));
  EXPECT_EQ(load_pages(*store, make_keys(0, 5)).right, 5u);
  EXPECT_EQ(store->stats().blocks, 5u);
}

TEST_F(PageDamageTest, a_truncated_index_costs_the_entries_behind_the_cut) {
  store_blocks();
  fs::resize_file(file("index"), kHeader + 10 * kEntry + 7);
  EXPECT_EQ(survivors(), 10u);
}

TEST_F(PageDamageTest, an_index_of_garbage_is_an_empty_store) {
  store_blocks();
  std::mt19937 random(3);
  std::string garbage(kHeader + 64 * kEntry, '\0');
  for (char& c : garbage) c = static_cast<char>(random());
  rewrite(file("index"), garbage);
  uint64_t dropped = 0;
  EXPECT_EQ(survivors(&dropped), 0u);
  EXPECT_EQ(dropped, 64u);
}

TEST_F(PageDamageTest, a_damaged_index_header_costs_nothing) {
  store_blocks();
  patch(file("index"), 0, std::string(4096, 'h'));
  EXPECT_EQ(survivors(), kBlocks);
}

TEST_F(PageDamageTest, the_table_is_built_again_from_the_index) {
  store_blocks();
  rewrite(file("table"), "garbage");
  EXPECT_EQ(survivors(), kBlocks);
  fs::remove(file("table"));
  EXPECT_EQ(survivors(), kBlocks);
}

TEST_F(PageDamageTest, every_flipped_bit_of_an_entry_is_noticed) {
  store_blocks();
  const std::string good = contents(file("index"));
  for (size_t bit = 0; bit < kEntry * 8; bit += 3) {
    std::string bad = good;
    bad[kHeader + bit / 8] = static_cast<char>(bad[kHeader + bit / 8] ^ (1 << (bit % 8)));
    rewrite(file("index"), bad);
    const auto store = open_pages(options(64));
    const auto loaded = load_pages(*store, make_keys(0, kBlocks));
    EXPECT_EQ(loaded.wrong, 0u);
    // The stamp of use is outside the check: it decides the order of eviction, nothing else.
    const bool stamp = bit / 8 >= 36;
    EXPECT_EQ(loaded.right, stamp ? kBlocks : kBlocks - 1) << "bit " << bit;
  }
}

TEST_F(PageDamageTest, entries_of_another_store_are_never_served) {
  store_blocks();
  const std::string index = contents(file("index"));
  fs::remove(file("FORMAT.json"));
  EXPECT_EQ(survivors(), 0u) << "a store without a description starts empty";
  rewrite(file("index"), index);
  EXPECT_EQ(survivors(), 0u) << "the old index belongs to another uuid";
}

TEST_F(PageDamageTest, segments_of_another_store_are_never_served) {
  store_blocks();
  const std::string stolen = contents(file("seg-00000"));
  fs::remove(file("FORMAT.json"));
  EXPECT_EQ(survivors(), 0u);
  rewrite(file("seg-00001"), stolen);
  EXPECT_EQ(survivors(), kBlocks - 16);
}

TEST_F(PageDamageTest, a_newer_version_is_refused_and_left_alone) {
  store_blocks();
  std::string text = contents(file("FORMAT.json"));
  text.replace(text.find("\"version\": 2"), 12, "\"version\": 3");
  rewrite(file("FORMAT.json"), text);
  const auto refused = PageStore::open(options(64));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.status().code(), Code::unsupported);
  EXPECT_EQ(contents(file("FORMAT.json")), text);
}

TEST_F(PageDamageTest, a_store_of_an_older_version_is_refused_to_readers_and_made_afresh_to_write) {
  store_blocks();
  std::string text = contents(file("FORMAT.json"));
  text.replace(text.find("\"version\": 2"), 12, "\"version\": 1");
  rewrite(file("FORMAT.json"), text);
  auto reading = options(64);
  reading.read_only = true;
  EXPECT_EQ(PageStore::open(reading).status().code(), Code::unsupported);
  EXPECT_EQ(contents(file("FORMAT.json")), text);
  uint64_t dropped = 0;
  EXPECT_EQ(survivors(&dropped), 0u);
  EXPECT_EQ(dropped, 0u) << "entries of another kind are not damage";
  EXPECT_EQ(survivors(), kBlocks) << "the new store is a store like any other";
}

TEST_F(PageDamageTest, one_layout_too_many_begins_the_store_anew) {
  store_blocks();
  auto format = pages::parse_format(contents(file("FORMAT.json")));
  ASSERT_TRUE(format.ok());
  while (format.value().layouts.size() < pages::kMostLayouts) {
    format.value().layouts.push_back(1000 + format.value().layouts.size());
  }
  rewrite(file("FORMAT.json"), pages::format_text(format.value()));
  EXPECT_EQ(survivors(), kBlocks);
  auto another = options(64);
  another.layout_id = 5;
  EXPECT_EQ(count_pages(*open_pages(another), make_keys(0, kBlocks)), 0u);
  EXPECT_EQ(survivors(), 0u);
}

TEST_F(PageDamageTest, a_damaged_list_of_layouts_is_damage_of_the_description) {
  store_blocks();
  const std::string text = contents(file("FORMAT.json"));
  for (const char* list : {"\"12\"", "\"0000000000000000\"", "\"000000000000000g\"", "7"}) {
    std::string bad = text;
    const size_t at = bad.find("\"layouts\": ") + 11;
    bad.replace(at, bad.find_first_of(",\n", at) - at, list);
    rewrite(file("FORMAT.json"), bad);
    EXPECT_EQ(survivors(), 0u) << list;
    store_blocks();
  }
}

TEST_F(PageDamageTest, a_folder_in_place_of_a_file_is_an_error_not_a_crash) {
  store_blocks();
  for (const char* name : {"FORMAT.json", "index", "LOCK"}) {
    const std::string saved = contents(file(name));
    fs::remove(file(name));
    fs::create_directory(file(name));
    EXPECT_FALSE(PageStore::open(options(64)).ok()) << name;
    fs::remove(file(name));
    rewrite(file(name), saved);
  }
  EXPECT_EQ(survivors(), kBlocks);
}

TEST_F(PageDamageTest, random_damage_anywhere_never_yields_wrong_bytes) {
  std::mt19937 random(7);
  for (int round = 0; round < 25; ++round) {
    fs::remove_all(path());
    store_blocks();
    for (int hit = 0; hit < 6; ++hit) {
      const char* names[] = {"seg-00000", "seg-00001", "seg-00002",
                             "index",     "table",     "FORMAT.json"};
      const std::string name = file(names[random() % 6]);
      if (!fs::exists(name) || fs::file_size(name) == 0) continue;
      const size_t size = fs::file_size(name);
      if (random() % 4 == 0) {
        fs::resize_file(name, random() % (2 * size));
      } else {
        std::string bytes(1 + random() % 3000, '\0');
        for (char& c : bytes) c = static_cast<char>(random());
        patch(name, random() % size, bytes);
      }
    }
    const auto store = PageStore::open(options(64));
    if (!store.ok()) {
      EXPECT_TRUE(store.status().code() == Code::unsupported ||
                  store.status().code() == Code::invalid_argument)
          << store.status().to_string();
      continue;
    }
    EXPECT_EQ(load_pages(*store.value(), make_keys(0, kBlocks)).wrong, 0u) << "round " << round;
  }
}

TEST_F(PageDamageTest, walking_reports_what_is_damaged_and_changes_nothing) {
  store_blocks();
  patch(file("seg-00000"), 3 * 8192 + 100, "x");
  fs::resize_file(file("seg-00002"), 4096);
  std::map<std::string, int> seen;
  const Status walked = walk_pages(path(), true, [&](const BlockRecord& record) {
    ++seen[record.damaged ? "damaged" : "fine"];
    EXPECT_EQ(record.stage, "Disk");
    EXPECT_EQ(record.bytes, 8192u);
    EXPECT_EQ(record.damaged, !record.damage.empty());
    return true;
  });
  EXPECT_TRUE(walked.ok());
  EXPECT_EQ(seen["damaged"], 9);
  EXPECT_EQ(seen["fine"], 31);
  int count = 0;
  EXPECT_TRUE(walk_pages(path(), false, [&](const BlockRecord& record) {
                EXPECT_FALSE(record.damaged);
                return ++count < 5;
              }).ok());
  EXPECT_EQ(count, 5) << "the visitor stops the walk";
}

}  // namespace
}  // namespace ucm
