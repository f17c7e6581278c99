// SPDX-License-Identifier: Apache-2.0
#include <random>

#include "posix_fixture.h"
#include "stages/posix/posix_trailer.h"

namespace ucm::test {
namespace {

constexpr size_t kPayload = 3 * 4096 + 100;
constexpr size_t kTrailerAt = 4 * 4096;

// A way to spoil the file of one block, and the cause the store must name.
struct Damage {
  const char* name;
  const char* cause;
  void (*spoil)(std::vector<char>* file);
};

void flip(std::vector<char>* file, size_t offset) { (*file)[offset] ^= 0x10; }

template <typename Change>
void rewrite_trailer(std::vector<char>* file, Change change) {
  auto* page = reinterpret_cast<std::byte*>(file->data()) + kTrailerAt;
  posix::Trailer trailer;
  ASSERT_EQ(posix::decode_trailer(page, &trailer), nullptr);
  change(&trailer);
  posix::encode_trailer(trailer, page);
}

const Damage kDamages[] = {
    {"Emptied", "size", [](auto* file) { file->clear(); }},
    {"CutInThePayload", "size", [](auto* file) { file->resize(5000); }},
    {"CutAtAPage", "size", [](auto* file) { file->resize(3 * 4096); }},
    {"WithoutTrailer", "size", [](auto* file) { file->resize(kTrailerAt); }},
    {"CutInTheTrailer", "size", [](auto* file) { file->resize(kTrailerAt + 80); }},
    {"OneByteLonger", "size", [](auto* file) { file->push_back(0); }},
    {"OnePageLonger", "size", [](auto* file) { file->resize(file->size() + 4096); }},
    {"FirstBitFlipped", "checksum", [](auto* file) { flip(file, 0); }},
    {"MiddleBitFlipped", "checksum", [](auto* file) { flip(file, 7000); }},
    {"LastPayloadBitFlipped", "checksum", [](auto* file) { flip(file, kPayload - 1); }},
    {"PaddingFlipped", "padding", [](auto* file) { flip(file, kPayload + 10); }},
    {"MagicFlipped", "magic", [](auto* file) { flip(file, kTrailerAt); }},
    {"VersionFlipped", "version", [](auto* file) { flip(file, kTrailerAt + 8); }},
    {"ReservedFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 12); }},
    {"KeyFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 16); }},
    {"LayoutFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 32); }},
    {"LengthFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 40); }},
    {"RankFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 48); }},
    {"DigestFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 60); }},
    {"TimeFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 75); }},
    {"UnusedTrailerByteFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 2000); }},
    {"CheckFlipped", "trailer", [](auto* file) { flip(file, kTrailerAt + 4095); }},
    {"PayloadZeroed", "checksum",
     [](auto* file) { std::fill(file->begin(), file->begin() + kTrailerAt, 0); }},
    {"AllZeroed", "magic", [](auto* file) { std::fill(file->begin(), file->end(), 0); }},
    {"SoundTrailerOfAnotherKey", "key",
     [](auto* file) { rewrite_trailer(file, [](posix::Trailer* t) { t->key.low ^= 1; }); }},
    {"SoundTrailerOfAnotherLength", "length",
     [](auto* file) { rewrite_trailer(file, [](posix::Trailer* t) { t->payload_bytes = 9; }); }},
    {"SoundTrailerOfAnotherDigest", "checksum",
     [](auto* file) { rewrite_trailer(file, [](posix::Trailer* t) { t->digest.low ^= 1; }); }},
};

class PosixDamageTest : public PosixTest, public ::testing::WithParamInterface<Damage> {};

TEST_P(PosixDamageTest, IsACountedMissAndTheBlockCanBeStoredAgain) {
  static_assert(kPayload == kBlockBytes);
  const StorePtr store = open();
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  std::vector<char> bytes = read_file(file_of(keys[1]));
  GetParam().spoil(&bytes);
  write_file(file_of(keys[1]), bytes);

  Buffers buffers(store->layout(), keys.size());
  buffers.wipe();
  const TaskPtr task = store->load(make_batch(keys, {}, buffers));
  const Status status = task->wait(kPatience);
  EXPECT_EQ(status.code(), Code::not_found) << status.to_string();
  EXPECT_NE(status.message().find(GetParam().cause), std::string::npos) << status.to_string();
  EXPECT_EQ(task->failed_rows(), std::vector<uint32_t>{1});
  EXPECT_EQ(buffers.wrong_bytes(0, keys[0], 0) + buffers.wrong_bytes(2, keys[2], 0), 0u);
  EXPECT_EQ(dropped(GetParam().cause), 1);
  EXPECT_EQ(metric("ucm_dropped_blocks_total"), 1);
  EXPECT_FALSE(std::filesystem::exists(file_of(keys[1])));
  EXPECT_EQ(count_present(*store, keys), 2u);

  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
}

TEST_P(PosixDamageTest, IsRepairedByADumpThatMeetsItUnlessOnlyThePayloadSuffered) {
  const BlockKey key = make_key(5);
  const StorePtr store = open();
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  std::vector<char> bytes = read_file(file_of(key));
  GetParam().spoil(&bytes);
  write_file(file_of(key), bytes);
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  const auto wrong = load_blocks(*store, {key});
  const std::string cause = GetParam().cause;
  if (cause == "checksum" || cause == "padding") {
    // A dump looks at the trailer only; the load finds out.
    EXPECT_EQ(wrong.status().code(), Code::not_found);
  } else {
    ASSERT_TRUE(wrong.ok()) << wrong.status().to_string();
    EXPECT_EQ(wrong.value(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Every, PosixDamageTest, ::testing::ValuesIn(kDamages),
                         [](const auto& damage) { return std::string(damage.param.name); });

using PosixForeignTest = PosixTest;

TEST_F(PosixForeignTest, TwoSwappedFilesAreTwoMisses) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  std::filesystem::rename(file_of(keys[0]), scratch("aside"));
  std::filesystem::rename(file_of(keys[1]), file_of(keys[0]));
  std::filesystem::rename(scratch("aside"), file_of(keys[1]));
  EXPECT_EQ(load_blocks(*store, keys).status().code(), Code::not_found);
  EXPECT_EQ(dropped("key"), 2);
}

TEST_F(PosixForeignTest, ADeletedFileIsAMissEverywhere) {
  options_["lookup_ttl_s"] = 0.0;
  const StorePtr store = open();
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  std::filesystem::remove(file_of(keys[0]));
  EXPECT_EQ(count_present(*store, keys), 1u);
  EXPECT_EQ(load_blocks(*store, {keys[0]}).status().code(), Code::not_found);
  EXPECT_EQ(metric("ucm_dropped_blocks_total"), 0);
}

TEST_F(PosixForeignTest, AForeignFileIsDroppedAndADirectoryIsSurvived) {
  const StorePtr store = open();
  const BlockKey key = make_key(1);
  std::filesystem::create_directories(std::filesystem::path(file_of(key)).parent_path());
  write_file(file_of(key), std::vector<char>(5 * 4096, 'x'));
  EXPECT_EQ(load_blocks(*store, {key}).status().code(), Code::not_found);
  EXPECT_EQ(dropped("magic"), 1);
  std::filesystem::create_directory(file_of(key));
  EXPECT_EQ(count_present(*store, {key}), 0u);
  EXPECT_EQ(load_blocks(*store, {key}).status().code(), Code::not_found);
}

TEST_F(PosixForeignTest, ABlockOfAnotherLayoutIsAMissAndStaysUntilADumpReplacesIt) {
  const BlockKey key = make_key(1);
  ASSERT_TRUE(dump_blocks(*open(flat_layout(kBlockBytes, 1)), {key}).ok());
  for (const BlockLayout& layout : {flat_layout(kBlockBytes, 2), flat_layout(2 * kBlockBytes, 2)}) {
    const uint64_t before = inode_of(file_of(key));
    const StorePtr other = open(layout);
    ASSERT_TRUE(eventually([&] { return metric("ucm_blocks") == 1; }));
    EXPECT_EQ(load_blocks(*other, {key}).status().code(), Code::not_found);
    EXPECT_EQ(dropped("layout"), 1);
    EXPECT_EQ(count_present(*other, {key}), 0u) << "a lookup promised what a load declined";
    EXPECT_EQ(inode_of(file_of(key)), before) << "a load took it away";
    ASSERT_TRUE(dump_blocks(*other, {key}).ok());
    EXPECT_EQ(count_present(*other, {key}), 1u);
    EXPECT_EQ(load_blocks(*other, {key}).value(), 0u);
    EXPECT_EQ(metric("ucm_blocks"), 1);
    EXPECT_EQ(count_files(root(), ".t-"), 0u);
  }
  EXPECT_EQ(load_blocks(*open(flat_layout(2 * kBlockBytes, 0)), {key}).value(), 0u);
}

TEST_F(PosixForeignTest, AWriteThatFailsLeavesTheBlockOfAnotherLayout) {
  const BlockKey key = make_key(1);
  ASSERT_TRUE(dump_blocks(*open(flat_layout(kBlockBytes, 1)), {key}).ok());
  const StorePtr other = open(flat_layout(kBlockBytes, 2));
  io::set_faults({{.operation = io::Operation::write, .path = folder_of(key), .error = ENOSPC}});
  EXPECT_EQ(dump_blocks(*other, {key}).code(), Code::no_space);
  EXPECT_EQ(load_blocks(*open(flat_layout(kBlockBytes, 1)), {key}).value(), 0u);
}

TEST_F(PosixForeignTest, ABlockOfAnotherLayoutInOneRootDoesNotHideThatInTheOther) {
  const BlockKey key = make_key(1);
  ASSERT_TRUE(dump_blocks(*open(flat_layout(kBlockBytes, 1)), {key}).ok());
  options_["storage_backends"] = std::vector<std::string>{root(), scratch("b"), scratch("c")};
  options_["path_strategy"] = "round_robin";
  const StorePtr store = open(flat_layout(kBlockBytes, 2));
  // The first root in turn is the first one; the others get theirs from these dumps.
  ASSERT_TRUE(dump_blocks(*store, make_keys(100, 1)).ok());
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  ASSERT_TRUE(std::filesystem::exists(posix::block_path(scratch("b"), key)));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(load_blocks(*store, {key}).value(), 0u);
    EXPECT_EQ(count_present(*store, {key}), 1u);
  }
}

TEST_F(PosixForeignTest, RandomTrailersAreNeverBelieved) {
  std::mt19937_64 random(20260101);
  std::vector<std::byte> page(posix::kTrailerBytes);
  for (int round = 0; round < 20000; ++round) {
    for (size_t i = 0; i < page.size(); i += 8) {
      const uint64_t word = random();
      std::memcpy(page.data() + i, &word, 8);
    }
    // Half of the pages get past the first checks.
    if (round % 2 == 0) {
      std::memcpy(page.data(), "UCMBLOCK\1\0\0\0\0\0\0\0", 16);
    }
    posix::Trailer trailer;
    ASSERT_NE(posix::decode_trailer(page.data(), &trailer), nullptr);
  }
}

TEST_F(PosixForeignTest, RandomChangesOfAFileNeverGiveWrongBytes) {
  const StorePtr store = open();
  const BlockKey key = make_key(3);
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  const std::vector<char> sound = read_file(file_of(key));
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    std::vector<char> bytes = sound;
    const size_t changes = 1 + random() % 4;
    for (size_t i = 0; i < changes; ++i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (random() % 8 == 0) bytes.resize(random() % bytes.size());
    write_file(file_of(key), bytes);
    const auto wrong = load_blocks(*store, {key});
    if (bytes == sound) {
      EXPECT_TRUE(wrong.ok());
    } else {
      ASSERT_EQ(wrong.status().code(), Code::not_found) << "round " << round;
    }
  }
}

TEST_F(PosixForeignTest, VerifyNeverStillChecksTheTrailer) {
  options_["verify"] = "never";
  const StorePtr store = open();
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  std::filesystem::copy_file(file_of(keys[0]), file_of(keys[1]),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(load_blocks(*store, {keys[1]}).status().code(), Code::not_found);
  EXPECT_EQ(dropped("key"), 1);
}

}  // namespace
}  // namespace ucm::test
