// SPDX-License-Identifier: Apache-2.0
// Modules that can not be used are refused with one sentence each, and never stop the others.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "ucm/device.h"

namespace ucm {
namespace {

std::map<std::string, PlatformReport> reports() {
  setenv("UCM_PLATFORM_DIR", UCM_ODD_MODULES, 1);
  std::map<std::string, PlatformReport> by_name;
  for (PlatformReport& report : platforms()) by_name[report.name] = std::move(report);
  return by_name;
}

void expect_refused(const std::string& name, const std::string& words) {
  const std::map<std::string, PlatformReport> all = reports();
  ASSERT_TRUE(all.contains(name));
  const PlatformReport& report = all.at(name);
  EXPECT_FALSE(report.loaded);
  EXPECT_EQ(report.devices, 0);
  EXPECT_NE(report.reason.find(words), std::string::npos) << report.reason;
  EXPECT_EQ(report.reason.find('\n'), std::string::npos) << report.reason;
  const Status status = open_device(name, 0).status();
  EXPECT_EQ(status.code(), Code::unavailable);
  EXPECT_EQ(status.message(), report.reason);
}

TEST(Registry, AModuleOfAnotherAbiIsRefusedWithBothNumbers) {
  expect_refused("old", "module speaks ABI 1, this library " + std::to_string(kPlatformAbi));
}
TEST(Registry, ALibraryThatIsNoPlatformIsRefused) {
  expect_refused("mute", "exports no ucm_platform_entry");
}
TEST(Registry, AModuleUnderAnotherNameIsRefused) {
  expect_refused("renamed", "is the module of platform other");
}
TEST(Registry, AModuleWhoseDriverIsMissingSaysWhichCallItLacks) {
  expect_refused("needy", "vendor_driver_call");
}
TEST(Registry, AFileThatIsNoLibraryIsRefused) { expect_refused("torn", "libucm_torn.so"); }
TEST(Registry, APlatformWithoutADeviceSaysSo) {
  expect_refused("absent", "the driver finds no device");
}
TEST(Registry, GoodModulesBesideBadOnesWork) {
  const std::map<std::string, PlatformReport> all = reports();
  ASSERT_TRUE(all.contains("cpu"));
  EXPECT_TRUE(all.at("cpu").loaded);
  EXPECT_EQ(all.at("cpu").devices, 1);
  EXPECT_TRUE(all.at("cpu").reason.empty());
  EXPECT_TRUE(open_device("cpu", 0).ok());
}
TEST(Registry, APlatformThatIsNotInTheBuildNamesThoseThatAre) {
  setenv("UCM_PLATFORM_DIR", UCM_ODD_MODULES, 1);
  const Status status = open_device("abacus", 0).status();
  EXPECT_EQ(status.code(), Code::unavailable);
  EXPECT_NE(status.message().find("built: absent, cpu, mute"), std::string::npos)
      << status.message();
}

}  // namespace
}  // namespace ucm
