// SPDX-License-Identifier: Apache-2.0
#include "posix_fixture.h"
#include "stages/posix/posix_trailer.h"

namespace ucm::test {
namespace {

using PosixFormatTest = PosixTest;

TEST_F(PosixFormatTest, WhatWasDumpedIsThereAfterReopening) {
  const auto keys = make_keys(0, 40);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  const StorePtr store = open();
  EXPECT_EQ(count_present(*store, keys), keys.size());
  EXPECT_EQ(store->lookup_prefix(keys).value(), keys.size());
  const auto wrong = load_blocks(*store, keys);
  ASSERT_TRUE(wrong.ok()) << wrong.status().to_string();
  EXPECT_EQ(wrong.value(), 0u);
}

TEST_F(PosixFormatTest, BlocksOfEverySizeComeBackDirectAndBuffered) {
  for (const bool direct : {false, true}) {
    for (const size_t bytes : {1ul, 4095ul, 4096ul, 4097ul, 65536ul, 1048576ul + 512}) {
      options_["io_direct"] = direct;
      options_["storage_backends"] =
          scratch(std::to_string(bytes) + (direct ? "-direct" : "-buffered"));
      const StorePtr store = open(flat_layout(bytes));
      const auto keys = make_keys(bytes, 3);
      ASSERT_TRUE(dump_blocks(*store, keys).ok());
      const auto wrong = load_blocks(*store, keys);
      ASSERT_TRUE(wrong.ok()) << wrong.status().to_string();
      EXPECT_EQ(wrong.value(), 0u) << bytes;
    }
  }
}

TEST_F(PosixFormatTest, TheFileIsThePaddedPayloadAndATrailer) {
  const BlockKey key = make_key(1);
  ASSERT_TRUE(dump_blocks(*open(), {key}).ok());
  const auto bytes = read_file(file_of(key));
  ASSERT_EQ(bytes.size(), posix::file_bytes(kBlockBytes));
  for (size_t i = 0; i < kBlockBytes; ++i) ASSERT_EQ(std::byte(bytes[i]), content(key, i));
  for (size_t i = kBlockBytes; i < align_up(kBlockBytes); ++i) ASSERT_EQ(bytes[i], 0);
  posix::Trailer trailer;
  const auto* page = reinterpret_cast<const std::byte*>(bytes.data()) + align_up(kBlockBytes);
  ASSERT_EQ(posix::decode_trailer(page, &trailer), nullptr);
  EXPECT_EQ(trailer.key, key);
  EXPECT_EQ(trailer.layout_id, 7u);
  EXPECT_EQ(trailer.payload_bytes, kBlockBytes);
  EXPECT_EQ(trailer.rank, 0u);
  EXPECT_EQ(trailer.ranks, 1u);
  EXPECT_GT(trailer.written_ns, 1'600'000'000'000'000'000);
  EXPECT_EQ(std::memcmp(page, "UCMBLOCK", 8), 0);
}

TEST_F(PosixFormatTest, PaddingIsZeroWhateverTheCallerLeftThere) {
  const StorePtr store = open();
  const BlockKey key = make_key(1);
  Buffers buffers(store->layout(), 1);
  std::memset(buffers.piece(0, 0), 0x55, store->layout().slot_bytes());
  buffers.fill(0, key, 0);
  const std::vector<BlockKey> keys = {key};
  ASSERT_TRUE(store->dump(make_batch(keys, {}, buffers))->wait(kPatience).ok());
  std::memset(buffers.piece(0, 0), 0x55, store->layout().slot_bytes());
  ASSERT_TRUE(store->load(make_batch(keys, {}, buffers))->wait(kPatience).ok());
  EXPECT_EQ(buffers.wrong_bytes(0, key, 0), 0u);
  for (size_t i = kBlockBytes; i < store->layout().slot_bytes(); ++i) {
    ASSERT_EQ(buffers.piece(0, 0)[i], std::byte{0});
  }
}

TEST_F(PosixFormatTest, DumpingAgainLeavesTheFileUntouched) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 8);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  std::vector<uint64_t> inodes;
  for (const BlockKey& key : keys) inodes.push_back(inode_of(file_of(key)));
  const double bytes = metric("ucm_transfer_bytes_total", "direction", "dump");
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  for (size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(inode_of(file_of(keys[i])), inodes[i]);
  EXPECT_EQ(metric("ucm_transfer_bytes_total", "direction", "dump"), bytes);
  EXPECT_EQ(count_files(root(), posix::kTemporaryPrefix), 0u);
}

TEST_F(PosixFormatTest, DirectoriesAndFilesAreForTheirOwnerOnly) {
  const BlockKey key = make_key(1);
  ASSERT_TRUE(dump_blocks(*open(), {key}).ok());
  EXPECT_EQ(mode_of(root()), 0700u);
  EXPECT_EQ(mode_of(std::filesystem::path(file_of(key)).parent_path()), 0700u);
  EXPECT_EQ(mode_of(file_of(key)), 0600u);
}

TEST_F(PosixFormatTest, PermissionsForAGroupHoldWhateverTheUmaskIs) {
  options_["dir_mode"] = int64_t{02770};
  options_["file_mode"] = int64_t{0660};
  const BlockKey key = make_key(1);
  const mode_t before = ::umask(077);
  const Status status = dump_blocks(*open(), {key});
  ::umask(before);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(mode_of(root()), 02770u);
  EXPECT_EQ(mode_of(std::filesystem::path(file_of(key)).parent_path()), 02770u);
  EXPECT_EQ(mode_of(file_of(key)), 0660u);
  EXPECT_EQ(mode_of(root() + "/FORMAT.json"), 0660u);
}

TEST_F(PosixFormatTest, RemovedBlocksAreGoneFromTheDisk) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 4);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  ASSERT_TRUE(store->remove(std::span(keys).first(2)).ok());
  EXPECT_EQ(count_present(*store, keys), 2u);
  EXPECT_FALSE(std::filesystem::exists(file_of(keys[0])));
  EXPECT_EQ(store->lookup_prefix(keys).value(), 0u);
}

TEST_F(PosixFormatTest, LookupsNeedNoLayout) {
  const auto keys = make_keys(0, 4);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  const StorePtr store = open(BlockLayout(), true);
  EXPECT_EQ(count_present(*store, make_keys(0, 6)), 4u);
  EXPECT_EQ(store->lookup_prefix(make_keys(0, 6)).value(), 4u);
  EXPECT_EQ(store->load({})->status().code(), Code::invalid_argument);
}

TEST_F(PosixFormatTest, AReaderMayComeBeforeTheFirstWriter) {
  const StorePtr reader = open(flat_layout(), true);
  EXPECT_FALSE(std::filesystem::exists(root()));
  const auto keys = make_keys(0, 3);
  EXPECT_EQ(count_present(*reader, keys), 0u);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  EXPECT_EQ(count_present(*reader, keys), 3u);
  EXPECT_EQ(load_blocks(*reader, keys).value(), 0u);
}

TEST_F(PosixFormatTest, AReadOnlyStoreChangesNothing) {
  const auto keys = make_keys(0, 2);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  const StorePtr reader = open(flat_layout(), true);
  EXPECT_EQ(dump_blocks(*reader, make_keys(9, 1)).code(), Code::unsupported);
  EXPECT_EQ(reader->remove(keys).code(), Code::unsupported);
  std::vector<char> bytes = read_file(file_of(keys[0]));
  bytes[17] ^= 1;
  write_file(file_of(keys[0]), bytes);
  EXPECT_EQ(load_blocks(*reader, {keys[0]}).status().code(), Code::not_found);
  EXPECT_TRUE(std::filesystem::exists(file_of(keys[0])));
  EXPECT_EQ(dropped("checksum"), 1);
}

TEST_F(PosixFormatTest, AnotherFormatVersionIsRefusedWithWords) {
  open();
  std::ofstream(root() + "/FORMAT.json")
      << R"({"format": "ucm-posix", "uuid": "00", "version": 3})";
  const auto refused = try_open(options_, flat_layout());
  EXPECT_EQ(refused.status().code(), Code::unsupported);
  EXPECT_NE(refused.status().message().find("version 3"), std::string::npos);
}

TEST_F(PosixFormatTest, AGarbledFormatFileIsRefusedWithWords) {
  for (const char* text : {"", "{", "[]", "{\"format\": \"other\", \"version\": 1}", "\xff\xfe",
                           "{\"format\": \"ucm-posix\"}", "{\"format\": 3, \"version\": \"1\"}"}) {
    std::filesystem::create_directories(root());
    std::ofstream(root() + "/FORMAT.json", std::ios::trunc) << text;
    const auto refused = try_open(options_, flat_layout());
    EXPECT_EQ(refused.status().code(), Code::corruption) << text;
    EXPECT_NE(refused.status().message().find("FORMAT.json"), std::string::npos);
  }
}

TEST_F(PosixFormatTest, APathThatIsAFileIsRefusedWithWords) {
  std::ofstream(root()) << "not a directory";
  for (const bool read_only : {false, true}) {
    const auto refused = try_open(options_, flat_layout(), read_only);
    EXPECT_EQ(refused.status().code(), Code::invalid_argument);
    EXPECT_NE(refused.status().message().find(root()), std::string::npos);
  }
}

TEST_F(PosixFormatTest, AnUnwritableParentIsRefusedWithWords) {
  io::set_faults({{.operation = io::Operation::mkdir, .path = root(), .error = EACCES}});
  const auto refused = try_open(options_, flat_layout());
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.status().message().find("write access"), std::string::npos);
}

TEST_F(PosixFormatTest, WrongOptionsNameTheKey) {
  const auto message = [&](const std::string& key, OptionValue value) {
    Options options = options_;
    options[key] = std::move(value);
    const auto refused = try_open(options, flat_layout());
    EXPECT_EQ(refused.status().code(), Code::invalid_argument) << key;
    return refused.status().message();
  };
  EXPECT_NE(message("verify", "often").find("sample"), std::string::npos);
  EXPECT_NE(message("io_threads", int64_t{0}).find("io_threads"), std::string::npos);
  EXPECT_NE(message("eviction_low", 0.95).find("eviction_low"), std::string::npos);
  EXPECT_NE(message("timeout_s", 0.0).find("timeout_s"), std::string::npos);
  EXPECT_NE(message("storage_backends", std::vector<std::string>{}).find("storage_backends"),
            std::string::npos);
  EXPECT_NE(message("storage_backends", std::vector<std::string>{"/a", "/a/"}).find("twice"),
            std::string::npos);
  EXPECT_NE(message("path_strategy", "random").find("round_robin"), std::string::npos);
}

TEST_F(PosixFormatTest, InspectingFindsEveryBlockAndEveryDamage) {
  const auto keys = make_keys(0, 6);
  ASSERT_TRUE(dump_blocks(*open(), keys).ok());
  std::vector<char> bytes = read_file(file_of(keys[2]));
  bytes[5000] ^= 4;
  write_file(file_of(keys[2]), bytes);
  std::filesystem::resize_file(file_of(keys[3]), 4096);
  std::ofstream(root() + "/notes.txt") << "foreign";
  for (const bool verify : {false, true}) {
    size_t blocks = 0;
    size_t damaged = 0;
    const Status status = find_stage("Posix")->inspect(root(), verify, [&](const BlockRecord& r) {
      ++blocks;
      damaged += r.damaged;
      EXPECT_EQ(r.stage, "Posix");
      EXPECT_EQ(r.location, file_of(r.key));
      if (!r.damaged && r.key != keys[3]) {
        EXPECT_EQ(r.bytes, kBlockBytes);
        EXPECT_EQ(r.layout_id, 7u);
      }
      return true;
    });
    ASSERT_TRUE(status.ok()) << status.to_string();
    EXPECT_EQ(blocks, 6u);
    EXPECT_EQ(damaged, verify ? 2u : 0u);
  }
  EXPECT_TRUE(std::filesystem::exists(file_of(keys[2])));
}

TEST_F(PosixFormatTest, InspectingSomethingElseSaysItIsNoStore) {
  const auto none = [](const BlockRecord&) { return true; };
  const StageEntry* entry = find_stage("Posix");
  EXPECT_EQ(entry->inspect(scratch("absent"), false, none).code(), Code::not_found);
  std::filesystem::create_directories(root());
  EXPECT_EQ(entry->inspect(root(), false, none).code(), Code::not_found);
  std::ofstream(root() + "/FORMAT.json") << R"({"format": "ucm-disk", "version": 1})";
  EXPECT_EQ(entry->inspect(root(), false, none).code(), Code::not_found);
}

}  // namespace
}  // namespace ucm::test
