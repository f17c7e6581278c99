// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_pack.h"

#include <algorithm>
#include <set>

#include "io/files.h"
#include "posix_fixture.h"
#include "stages/posix/posix_inspect.h"

namespace ucm::test {
namespace {

using io::Operation;

// Small blocks that share files.
class PosixPackTest : public PosixTest {
 protected:
  static constexpr size_t kSlot = 4 * 4096;

  void SetUp() override {
    PosixTest::SetUp();
    options_["pack_bytes"] = int64_t{65536};
    options_["io_threads"] = int64_t{2};
  }
  size_t files_of(const std::vector<BlockKey>& keys) const {
    std::set<uint64_t> inodes;
    for (const BlockKey& key : keys) inodes.insert(inode_of(file_of(key)));
    return inodes.size();
  }
  // Changes one byte of the file a block lies in.
  void flip(const BlockKey& key, uint64_t offset) const {
    std::fstream file(file_of(key), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char byte = static_cast<char>(file.get());
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(static_cast<char>(byte ^ 0x10));
  }
  // Where a block lies in the file it shares.
  uint64_t place_of(const BlockKey& key) const {
    const auto report = posix::examine_block_file(file_of(key), key, flat_layout());
    EXPECT_EQ(report.value().finding, posix::Finding::sound);
    return report.value().payload_offset;
  }
  size_t loadable(Store& store, const std::vector<BlockKey>& keys) const {
    size_t count = 0;
    for (const BlockKey& key : keys) {
      const auto wrong = load_blocks(store, {key});
      EXPECT_EQ(wrong.ok() ? wrong.value() : 0, 0u);
      count += wrong.ok();
    }
    return count;
  }
};

TEST_F(PosixPackTest, BlocksOfOneDumpShareFilesAndComeBackRight) {
  const auto keys = make_keys(0, 300);
  {
    const StorePtr store = open();
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    EXPECT_LE(files_of(keys), 6u);
    EXPECT_EQ(count_present(*store, keys), keys.size());
    EXPECT_EQ(metric("ucm_transfer_blocks_total", "direction", "dump"), 300);
    // Again: everything is there already.
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    EXPECT_EQ(metric("ucm_transfer_blocks_total", "direction", "dump"), 300);
    EXPECT_EQ(store->lookup_prefix(keys).value(), keys.size());
  }
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
  // A store that writes files of its own reads shared ones all the same.
  options_["pack_bytes"] = int64_t{0};
  const StorePtr store = open();
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  options_["io_direct"] = true;
  const StorePtr direct = open();
  EXPECT_EQ(load_blocks(*direct, keys).value(), 0u);
  ASSERT_TRUE(dump_blocks(*direct, make_keys(300, 20)).ok());
  EXPECT_EQ(files_of(make_keys(300, 20)), 20u);
}

TEST_F(PosixPackTest, BlocksOfUpTo64KiBDoSoByDefault) {
  options_.erase("pack_bytes");
  const auto small = make_keys(0, 20);
  ASSERT_TRUE(dump_blocks(*open(flat_layout(65536)), small).ok());
  EXPECT_LE(files_of(small), 4u);
  const auto larger = make_keys(20, 20);
  ASSERT_TRUE(dump_blocks(*open(flat_layout(65537)), larger).ok());
  EXPECT_EQ(files_of(larger), 20u);
}

TEST_F(PosixPackTest, AllSizesAndPathsFitTogether) {
  options_["storage_backends"] = std::vector<std::string>{scratch("a"), scratch("b")};
  for (const char* strategy : {"hash", "round_robin"}) {
    for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{4097}, size_t{65536}}) {
      options_["path_strategy"] = std::string(strategy);
      const StorePtr store = open(flat_layout(bytes));
      const auto keys = make_keys(bytes * 1000 + (strategy[0] == 'h' ? 0 : 500), 40);
      ASSERT_TRUE(dump_blocks(*store, keys).ok());
      EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
    }
  }
}

TEST_F(PosixPackTest, ABlockThatIsRemovedLeavesItsNeighboursAlone) {
  const auto keys = make_keys(0, 20);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  ASSERT_EQ(files_of(keys), 2u);
  ASSERT_TRUE(store->remove(std::span(keys).subspan(0, 15)).ok());
  EXPECT_EQ(count_present(*store, keys), 5u);
  EXPECT_EQ(loadable(*store, keys), 5u);
  ASSERT_TRUE(store->remove(keys).ok());
  for (const BlockKey& key : keys) EXPECT_FALSE(std::filesystem::exists(file_of(key)));
}

TEST_F(PosixPackTest, DamageOfOnePayloadDropsThatBlockOnly) {
  const auto keys = make_keys(0, 16);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  flip(keys[3], place_of(keys[3]) + 777);
  EXPECT_EQ(loadable(*store, keys), 15u);
  EXPECT_EQ(dropped("checksum"), 1);
  EXPECT_EQ(count_present(*store, keys), 15u);
  // The padding behind the payload is checked as well.
  flip(keys[4], place_of(keys[4]) + kSlot - 1);
  EXPECT_EQ(loadable(*store, keys), 14u);
  EXPECT_EQ(dropped("padding"), 1);
  // What was dropped can be stored again, beside the others.
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(loadable(*store, keys), 16u);
}

TEST_F(PosixPackTest, DamageOfTheSharedPageDropsEveryBlockOfTheFileAndServesNone) {
  const auto keys = make_keys(0, 16);
  for (const uint64_t from_end : {uint64_t{4096}, uint64_t{4000}, uint64_t{200}, uint64_t{1}}) {
    const StorePtr store = open();
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    const uint64_t bytes = std::filesystem::file_size(file_of(keys[0]));
    const uint64_t inode = inode_of(file_of(keys[0]));
    size_t shared = 0;
    for (const BlockKey& key : keys) shared += inode_of(file_of(key)) == inode;
    flip(keys[0], bytes - from_end);
    EXPECT_EQ(loadable(*store, keys), keys.size() - shared) << from_end;
    EXPECT_EQ(count_present(*store, keys), keys.size() - shared) << from_end;
  }
}

TEST_F(PosixPackTest, AFileThatWasCutOrBelongsToOthersIsAMiss) {
  const auto keys = make_keys(0, 16);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  const std::string sound = file_of(keys[0]);
  const uint64_t bytes = std::filesystem::file_size(sound);
  // Another block's name for the file.
  const BlockKey stranger = make_key(99);
  std::filesystem::create_directories(std::filesystem::path(file_of(stranger)).parent_path());
  std::filesystem::create_hard_link(sound, file_of(stranger));
  EXPECT_EQ(loadable(*store, {stranger}), 0u);
  EXPECT_EQ(dropped("key"), 1);
  EXPECT_EQ(loadable(*store, keys), 16u);
  const uint64_t inode = inode_of(sound);
  size_t shared = 0;
  for (const BlockKey& key : keys) shared += inode_of(file_of(key)) == inode;
  std::filesystem::resize_file(sound, bytes - kSlot);
  EXPECT_EQ(loadable(*store, keys), 16u - shared);
}

TEST_F(PosixPackTest, ABlockOfAnotherLayoutIsNotUsedAndADumpTakesItsNameAlone) {
  const auto keys = make_keys(0, 16);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  // Twice the slot, so that a file of two blocks is as long as one of theirs.
  for (const BlockLayout& layout : {flat_layout(kBlockBytes, 8), flat_layout(2 * kSlot)}) {
    const StorePtr other = open(layout);
    EXPECT_EQ(loadable(*other, keys), 0u);
    ASSERT_TRUE(dump_blocks(*other, {keys[0], keys[1]}).ok());
    EXPECT_EQ(loadable(*other, keys), 2u);
  }
  const StorePtr store = open();
  EXPECT_EQ(loadable(*store, keys), 14u);
  const auto pair = make_keys(50, 2);
  ASSERT_TRUE(dump_blocks(*store, pair).ok());
  ASSERT_EQ(files_of(pair), 1u);
  EXPECT_EQ(loadable(*open(flat_layout(2 * kSlot)), pair), 0u);
  EXPECT_EQ(loadable(*store, pair), 2u);
}

TEST_F(PosixPackTest, WithoutHardLinksEveryBlockGetsAFileOfItsOwn) {
  const auto keys = make_keys(0, 20);
  const StorePtr store = open();
  io::set_faults({{.operation = Operation::link, .path = root(), .error = EPERM}});
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_GE(files_of(keys), 18u);
  EXPECT_EQ(loadable(*store, keys), 20u);
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
}

TEST_F(PosixPackTest, AStoreThatWasMadeWithoutKeepsItsFormat) {
  options_["pack_bytes"] = int64_t{0};
  ASSERT_TRUE(dump_blocks(*open(), make_keys(0, 2)).ok());
  options_["pack_bytes"] = int64_t{65536};
  const StorePtr store = open();
  const auto keys = make_keys(2, 20);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(files_of(keys), 20u);
  EXPECT_EQ(posix::format_version(root()).value(), 1u);
}

TEST_F(PosixPackTest, AFullDiskFailsTheDumpAndKeepsEveryOlderBlock) {
  const auto older = make_keys(0, 20);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, older).ok());
  io::set_faults({{.operation = Operation::write, .path = root(), .error = ENOSPC}});
  const auto keys = make_keys(20, 20);
  EXPECT_EQ(dump_blocks(*store, keys).code(), Code::no_space);
  io::set_faults({});
  EXPECT_EQ(count_present(*store, keys), 0u);
  EXPECT_EQ(loadable(*store, older), 20u);
  EXPECT_EQ(count_files(root(), ".t-"), 0u);
}

TEST_F(PosixPackTest, ADumpThatHangsEndsInTimeoutAndIsNotPublishedLater) {
  options_["timeout_s"] = 0.5;
  const auto keys = make_keys(0, 8);
  const StorePtr store = open();
  io::set_faults({{.operation = Operation::write,
                   .path = folder_of(keys[0]) + ".t-",
                   .count = 1,
                   .delay_ms = 1500}});
  // The call that hangs still reads from this memory when the rows have ended.
  Buffers buffers(store->layout(), keys.size());
  for (size_t i = 0; i < keys.size(); ++i) buffers.fill(i, keys[i], 0);
  EXPECT_EQ(store->dump(make_batch(keys, {}, buffers))->wait(kPatience).code(), Code::timeout);
  // One thread hangs, the other one works: the store is not refused.
  const auto others = make_keys(50, 8);
  EXPECT_TRUE(dump_blocks(*store, others).ok());
  ASSERT_TRUE(eventually([&] { return count_files(root(), ".t-") == 0; }));
  EXPECT_EQ(count_present(*store, keys), 0u);
  EXPECT_EQ(count_present(*store, others), 8u);
}

TEST_F(PosixPackTest, TwinsInOneDumpAreOneBlock) {
  auto keys = make_keys(0, 10);
  keys.push_back(keys[2]);
  keys.push_back(keys[9]);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(metric("ucm_transfer_blocks_total", "direction", "dump"), 10);
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
}

// Which of the rows of one load fail.
std::vector<uint32_t> failed_rows(Store& store, const std::vector<BlockKey>& keys) {
  Buffers buffers(store.layout(), keys.size());
  buffers.wipe();
  const TaskPtr task = store.load(make_batch(keys, {}, buffers));
  (void)task->wait(kPatience);
  std::vector<uint32_t> failed = task->failed_rows();
  std::sort(failed.begin(), failed.end());
  for (uint32_t row = 0; row < keys.size(); ++row) {
    if (std::binary_search(failed.begin(), failed.end(), row)) continue;
    EXPECT_EQ(buffers.wrong_bytes(row, keys[row], 0), 0u) << row;
  }
  return failed;
}

TEST_F(PosixPackTest, ABatchThatIsReadTogetherFailsOnlyWhereABlockIsDamagedOrGone) {
  const auto keys = make_keys(0, 16);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  ASSERT_TRUE(store->remove({{keys[2], keys[9]}}).ok());
  flip(keys[5], place_of(keys[5]) + 777);
  flip(keys[8], place_of(keys[8]) + kSlot - 1);
  EXPECT_EQ(failed_rows(*store, keys), (std::vector<uint32_t>{2, 5, 8, 9}));
  EXPECT_EQ(dropped("checksum"), 1);
  EXPECT_EQ(dropped("padding"), 1);
  // In any order, with twins, with a stranger's block between them.
  std::vector<BlockKey> mixed = {keys[15], keys[3], make_key(900), keys[3], keys[0],
                                 keys[1],  keys[2], keys[14],      keys[4], keys[15]};
  EXPECT_EQ(failed_rows(*store, mixed), (std::vector<uint32_t>{2, 6}));
}

TEST_F(PosixPackTest, AReadThatFailsInTheMiddleOfABatchFailsRowsAndNothingElse) {
  const auto keys = make_keys(0, 8);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  io::set_faults({{.operation = Operation::read, .path = root(), .skip = 2, .error = EIO}});
  EXPECT_FALSE(failed_rows(*store, keys).empty());
  io::set_faults({});
  EXPECT_TRUE(failed_rows(*store, keys).empty());
}

TEST_F(PosixPackTest, APinKeepsItsBlockAndLetsTheOthersOfTheFileGo) {
  options_["capacity_bytes"] = static_cast<int64_t>(1000 * kSlot);
  const auto old = make_keys(0, 8);
  {
    const StorePtr store = open();
    ASSERT_TRUE(dump_blocks(*store, old).ok());
    ASSERT_EQ(files_of(old), 1u);
    std::filesystem::last_write_time(
        file_of(old[0]), std::filesystem::file_time_type::clock::now() - std::chrono::hours(1));
    std::vector<uint8_t> pinned(1);
    ASSERT_TRUE(store->pin({{old[3]}}, pinned).ok());
    EXPECT_EQ(pinned[0], 1);
    ASSERT_TRUE(dump_blocks(*store, make_keys(100, 80)).ok());
  }
  options_["capacity_bytes"] = static_cast<int64_t>(60 * kSlot);
  const StorePtr store = open();
  ASSERT_TRUE(eventually([&] { return metric("ucm_evicted_blocks_total") > 0; }));
  ASSERT_TRUE(eventually([&] { return metric("ucm_pinned_blocks") == 1; }));
  EXPECT_EQ(loadable(*store, old), 1u);
  EXPECT_EQ(load_blocks(*store, {old[3]}).value(), 0u);
  // What is counted is what the files take, the pinned block's whole file among them.
  uint64_t bytes = 0;
  std::set<uint64_t> inodes;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root())) {
    const bool block = entry.is_regular_file() && entry.path().filename().string().size() == 32;
    if (block && inodes.insert(inode_of(entry.path())).second) bytes += entry.file_size();
  }
  EXPECT_EQ(metric("ucm_used_bytes"), static_cast<double>(bytes));
  EXPECT_LE(bytes, 60 * kSlot);
  ASSERT_TRUE(store->unpin({{old[3]}}).ok());
  EXPECT_EQ(count_files(root(), ".p-"), 0u);
}

TEST_F(PosixPackTest, AQuotaHoldsForSharedFilesToo) {
  const uint64_t quota = 40 * (kSlot + 512);
  options_["capacity_bytes"] = static_cast<int64_t>(4 * quota);
  options_["quotas"] = std::vector<std::string>{"a=25%"};
  options_["namespace"] = std::string("a");
  const StorePtr store = open();
  for (uint64_t i = 0; i < 30; ++i) {
    ASSERT_TRUE(dump_blocks(*store, make_keys(i * 16, 16)).ok());
    uint64_t bytes = 0;
    std::set<uint64_t> inodes;
    std::error_code error;
    for (const auto& folder :
         std::filesystem::directory_iterator(posix::namespace_folder(root(), "a"))) {
      for (const auto& entry : std::filesystem::directory_iterator(folder.path(), error)) {
        const uint64_t size = std::filesystem::file_size(entry.path(), error);
        const uint64_t inode = inode_of(entry.path());
        // 0: it has left since.
        if (!error && inode != 0 && inodes.insert(inode).second) bytes += size;
      }
    }
    ASSERT_LE(bytes, quota) << i;
  }
  EXPECT_TRUE(eventually([&] {
    return dump_blocks(*store, {make_key(99999)}).ok() &&
           count_present(*store, {make_key(99999)}) == 1;
  }));
}

TEST_F(PosixPackTest, TheCollectorCountsASharedFileOnceAndRemovesItsBlocksTogether) {
  const auto keys = make_keys(0, 320);
  {
    const StorePtr store = open();
    for (uint64_t i = 0; i < 320; i += 16) {
      ASSERT_TRUE(dump_blocks(*store, make_keys(i, 16)).ok());
    }
  }
  options_["capacity_bytes"] = static_cast<int64_t>(160 * (kSlot + 1024));
  const StorePtr store = open();
  ASSERT_TRUE(eventually([&] { return metric("ucm_evicted_blocks_total") > 0; }));
  ASSERT_TRUE(eventually([&] { return metric("ucm_blocks") > 0; }));
  const size_t left = count_present(*store, keys);
  EXPECT_GT(left, 100u);
  EXPECT_LE(left, 144u);
  EXPECT_EQ(loadable(*store, keys), left);
  EXPECT_EQ(metric("ucm_blocks"), static_cast<double>(left));
}

TEST_F(PosixPackTest, AnInspectionSeesEveryBlockAndTheDamagedOne) {
  const auto keys = make_keys(0, 20);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  flip(keys[7], place_of(keys[7]) + 5);
  std::set<std::string> seen;
  std::vector<std::string> damaged;
  ASSERT_TRUE(posix::inspect_posix(root(), true, [&](const BlockRecord& record) {
                EXPECT_EQ(record.bytes, kBlockBytes);
                seen.insert(record.key.hex());
                if (record.damaged) damaged.push_back(record.key.hex());
                return true;
              }).ok());
  EXPECT_EQ(seen.size(), 20u);
  EXPECT_EQ(damaged, std::vector<std::string>{keys[7].hex()});
}

TEST_F(PosixPackTest, EveryDurabilityStoresBlocks) {
  uint64_t first = 0;
  for (const char* durability : {"none", "group", "strict"}) {
    options_["durability"] = std::string(durability);
    const StorePtr store = open();
    const auto keys = make_keys(first += 100, 20);
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    EXPECT_EQ(loadable(*store, keys), 20u);
  }
}

TEST(PosixPackPage, NoDamagedPageIsBelieved) {
  posix::PackPage pack;
  pack.layout_id = 7;
  pack.payload_bytes = 5000;
  pack.written_ns = 1;
  for (const BlockKey& key : make_keys(0, 5)) pack.blocks.push_back({key, {key.low, 3}});
  std::vector<std::byte> page(posix::kTrailerBytes);
  posix::encode_pack(pack, page.data());
  posix::PackPage back;
  ASSERT_EQ(posix::decode_pack(page.data(), &back), nullptr);
  EXPECT_EQ(back.blocks.size(), 5u);
  EXPECT_EQ(back.file_bytes(), 5u * 8192 + 4096);
  for (size_t bit = 0; bit < page.size() * 8; ++bit) {
    page[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
    EXPECT_NE(posix::decode_pack(page.data(), &back), nullptr) << bit;
    page[bit / 8] ^= static_cast<std::byte>(1u << bit % 8);
  }
}

}  // namespace
}  // namespace ucm::test
