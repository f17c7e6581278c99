// SPDX-License-Identifier: Apache-2.0
// The figures of copies: every method of every device moves the right bytes and is measured.
#include <gtest/gtest.h>

#include <set>

#include "device_side.h"
#include "ucm/device.h"

namespace ucm::test {
namespace {

class CopyFiguresTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    side_ = make_side();
    auto opened = open_device(GetParam(), 0);
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    device_ = opened.value();
    survey_.bytes = size_t{2} << 20;
    survey_.piece_bytes = {4096, 65536, 524288};
    survey_.rounds = 1;
  }
  void TearDown() override { EXPECT_EQ(side_->mistakes(), std::vector<std::string>()); }

  std::unique_ptr<DeviceSide> side_;
  std::shared_ptr<Device> device_;
  CopySurvey survey_;
};

TEST_P(CopyFiguresTest, EveryMethodIsMeasuredWithEveryPieceBesideOneLargeCopy) {
  std::vector<std::string> told;
  survey_.on_row = [&](const std::string& method, size_t) {
    told.push_back(method);
    return true;
  };
  const auto figures = measure_copies(device_.get(), survey_);
  ASSERT_TRUE(figures.ok()) << figures.status().to_string();
  const std::vector<CopyFigure>& rows = figures.value().rows;
  ASSERT_EQ(rows.size(), 1 + 3 * device_->copy_methods().size());
  ASSERT_EQ(told.size(), rows.size());
  EXPECT_EQ(rows.front().method, kOneLargeCopy);
  EXPECT_EQ(rows.front().pieces, 1u);
  std::set<std::string> methods;
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].method, told[i]);
    EXPECT_GT(std::min({rows[i].load, rows[i].dump, rows[i].both}), 0) << rows[i].method;
    methods.insert(rows[i].method);
  }
  for (const std::string& method : device_->copy_methods()) EXPECT_TRUE(methods.contains(method));
}

TEST_P(CopyFiguresTest, TheCallerMayEndThem) {
  survey_.on_row = [](const std::string& method, size_t) { return method == kOneLargeCopy; };
  EXPECT_EQ(measure_copies(device_.get(), survey_).status().code(), Code::cancelled);
}

TEST_P(CopyFiguresTest, PiecesThatDoNotDivideTheBytesAreRefused) {
  for (const size_t bytes : {size_t{0}, size_t{5000}, size_t{3} << 18, size_t{4} << 20}) {
    survey_.piece_bytes = {bytes};
    EXPECT_EQ(measure_copies(device_.get(), survey_).status().code(), Code::invalid_argument)
        << bytes;
  }
}

TEST_P(CopyFiguresTest, AWayOfCopyingThatTheDeviceDoesNotHaveIsRefused) {
  const StreamHandle stream = device_->make_stream(Direction::load).value();
  EXPECT_EQ(device_->use_method(stream, "pigeon").code(), Code::invalid_argument);
  for (const std::string& method : device_->copy_methods()) {
    EXPECT_TRUE(device_->use_method(stream, method).ok()) << method;
  }
  device_->destroy_stream(stream);
}

INSTANTIATE_TEST_SUITE_P(Devices, CopyFiguresTest, ::testing::ValuesIn(device_platforms()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ucm::test
