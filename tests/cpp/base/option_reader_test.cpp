// SPDX-License-Identifier: Apache-2.0
#include "base/option_reader.h"

#include <gtest/gtest.h>

#include <array>

namespace ucm::base {
namespace {

TEST(OptionReader, PrefersTheKeyWithTheStagesPrefix) {
  const Options options = {{"io_depth", int64_t{4}}, {"disk.io_depth", int64_t{8}}};
  uint32_t depth = 0;
  ASSERT_TRUE(OptionReader(options, "Disk").read("io_depth", &depth).ok());
  EXPECT_EQ(depth, 8u);
  ASSERT_TRUE(OptionReader(options, "Posix").read("io_depth", &depth).ok());
  EXPECT_EQ(depth, 4u);
}

TEST(OptionReader, LeavesTheTargetOfAMissingKeyAlone) {
  const Options options;
  double value = 1.5;
  ASSERT_TRUE(OptionReader(options, "x").read("nothing", &value).ok());
  EXPECT_EQ(value, 1.5);
}

TEST(OptionReader, NamesTheKeyAndTheExpectationOfAWrongValue) {
  const Options options = {
      {"n", int64_t{-1}}, {"flag", std::string("yes")}, {"mode", std::string("z")}};
  const OptionReader reader(options, "disk");
  uint64_t number = 0;
  bool flag = false;
  std::string mode = "a";
  constexpr std::array<std::string_view, 2> kModes = {"a", "b"};
  EXPECT_NE(reader.read("n", &number).message().find("disk.n"), std::string::npos);
  EXPECT_NE(reader.read("flag", &flag).message().find("true or false"), std::string::npos);
  EXPECT_NE(reader.read_choice("mode", kModes, &mode).message().find("a b"), std::string::npos);
  EXPECT_EQ(mode, "a");
}

TEST(OptionReader, TakesOneTextForAListAndAWholeNumberForAnyNumber) {
  const Options options = {{"paths", std::string("/a")}, {"ratio", int64_t{1}}};
  const OptionReader reader(options, "x");
  std::vector<std::string> paths;
  double ratio = 0;
  ASSERT_TRUE(reader.read("paths", &paths).ok());
  ASSERT_TRUE(reader.read("ratio", &ratio).ok());
  EXPECT_EQ(paths, std::vector<std::string>{"/a"});
  EXPECT_EQ(ratio, 1.0);
}

TEST(Nearest, FindsATypoAndRefusesAStranger) {
  const std::vector<std::string> known = {"buffer_number", "io_direct"};
  EXPECT_EQ(nearest("bufer_numbr", known), "buffer_number");
  EXPECT_EQ(nearest("IO_DIRECT", known), "io_direct");
  EXPECT_EQ(nearest("temperature", known), "");
}

}  // namespace
}  // namespace ucm::base
