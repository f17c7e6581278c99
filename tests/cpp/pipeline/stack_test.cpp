// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "test_blocks.h"
#include "ucm/inspect.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

class PipelineTest : public testing::TestWithParam<const char*> {
 protected:
  PipelineTest() {
    char pattern[] = "/tmp/ucm-pipeline-XXXXXX";
    folder_ = mkdtemp(pattern);
  }
  ~PipelineTest() override { std::filesystem::remove_all(folder_); }

  PipelineConfig config(const std::string& spec) const {
    PipelineConfig config;
    config.spec = spec;
    config.options = {{"storage_backends", std::vector<std::string>{folder_ + "/a"}},
                      {"posix.storage_backends", std::vector<std::string>{folder_ + "/b"}},
                      {"buffer_number", int64_t{8}},
                      {"capacity_bytes", int64_t{64} << 20},
                      {"prefault", false}};
    config.layout = BlockLayout::make({3000, 5000}, 2, 7).value();
    return config;
  }

  std::string folder_;
};

TEST_P(PipelineTest, KeepsBlocksOverARestart) {
  const auto keys = make_keys(0, 30);
  {
    auto store = Pipeline::open(config(GetParam())).value();
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  }
  auto store = Pipeline::open(config(GetParam())).value();
  EXPECT_EQ(store->lookup_prefix(keys).value(), 30u);
  EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
}

TEST_P(PipelineTest, AnswersLookupsWithoutALayout) {
  const auto keys = make_keys(0, 5);
  auto writer = Pipeline::open(config(GetParam())).value();
  ASSERT_TRUE(dump_blocks(*writer, keys).ok());
  PipelineConfig lookups = config(GetParam());
  lookups.layout = BlockLayout();
  lookups.read_only = true;
  auto reader = Pipeline::open(lookups).value();
  EXPECT_EQ(reader->lookup_prefix(keys).value(), 5u);
  Buffers buffers(writer->layout(), 1);
  EXPECT_EQ(reader->load(make_batch(std::span(keys).first(1), {}, buffers))->status().code(),
            Code::invalid_argument);
}

TEST_P(PipelineTest, ShowsItsBlocksToTheInspector) {
  auto store = Pipeline::open(config(GetParam())).value();
  const auto keys = make_keys(0, 3);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  size_t blocks = 0;
  for (const char* root : {"/a", "/b"}) {
    if (!std::filesystem::exists(folder_ + root)) continue;
    const Status status = inspect_blocks(folder_ + root, true, [&](const BlockRecord& record) {
      ++blocks;
      EXPECT_FALSE(record.damaged) << record.damage;
      EXPECT_EQ(record.bytes, 16000u);
      EXPECT_EQ(record.layout_id, 7u);
      return true;
    });
    EXPECT_TRUE(status.ok()) << status.to_string();
  }
  EXPECT_GE(blocks, 3u);
}

INSTANTIATE_TEST_SUITE_P(Specs, PipelineTest,
                         testing::Values("Cache|Disk", "Cache|Posix", "Disk", "Posix",
                                         "Cache|Disk|Posix"));

TEST_F(PipelineTest, ExplainsASpecOrOptionItCanNotUse) {
  const auto text = [](const PipelineConfig& config) {
    const Status status = Pipeline::open(config).status();
    EXPECT_EQ(status.code(), Code::invalid_argument);
    return status.message();
  };
  EXPECT_NE(text(config("Cahce|Disk")).find("did you mean Cache"), std::string::npos);
  EXPECT_NE(text(config("")).find("known stages"), std::string::npos);
  EXPECT_NE(text(config("Disk|Cache")).find("must come first"), std::string::npos);
  EXPECT_NE(text(config("Null|Disk")).find("nothing can stand below Null"), std::string::npos);
  PipelineConfig typo = config("Cache");
  typo.options["bufer_number"] = int64_t{1};
  EXPECT_NE(text(typo).find("did you mean buffer_number"), std::string::npos);
  PipelineConfig stranger = config("Cache");
  stranger.options["tape.speed"] = int64_t{1};
  EXPECT_NE(text(stranger).find("no stage is called 'tape'"), std::string::npos);
}

TEST_F(PipelineTest, AnswersUnavailableAfterClose) {
  auto store = Pipeline::open(config("Cache")).value();
  store->close();
  store->close();
  std::vector<uint8_t> present(1);
  EXPECT_EQ(store->lookup(make_keys(0, 1), present).code(), Code::unavailable);
}

}  // namespace
}  // namespace ucm::test
