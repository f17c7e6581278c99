// SPDX-License-Identifier: Apache-2.0
#include "transport/copier.h"

#include <gtest/gtest.h>

#include <future>
#include <vector>

#include "base/checksum.h"
#include "transport/copy_plan.h"

namespace ucm::transport {
namespace {

TEST(CopyPlan, JoinsOnlyWhatTouchesOnBothSides) {
  char to[100];
  char from[100];
  std::vector<CopyPiece> pieces = {{to, from, 10},
                                   {to + 10, from + 10, 5},
                                   {to + 15, from + 20, 5},
                                   {to + 30, from + 25, 5},
                                   {to + 35, from + 30, 5}};
  join_adjacent(&pieces);
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].bytes, 15u);
  EXPECT_EQ(pieces[1].bytes, 5u);
  EXPECT_EQ(pieces[2].dst, to + 30);
  EXPECT_EQ(pieces[2].bytes, 10u);
  pieces.clear();
  join_adjacent(&pieces);
  EXPECT_TRUE(pieces.empty());
}

Status run(Copier* copier, std::vector<CopyPiece> pieces, uintptr_t event, bool skip) {
  std::promise<Status> outcome;
  CopyJob job;
  job.pieces = std::move(pieces);
  job.event = event;
  job.skip = [skip] { return skip; };
  job.done = [&](const Status& status) { outcome.set_value(status); };
  const bool taken = copier->submit(Direction::dump, std::move(job));
  return taken ? outcome.get_future().get() : make_status(Code::unavailable, "closed");
}

TEST(Copier, MovesBytesAndSkipsCancelledJobs) {
  Copier copier(open_device("cpu", 0).value(), 2);
  const std::string from = "the bytes";
  std::string to(from.size(), '-');
  EXPECT_EQ(run(&copier, {{to.data(), from.data(), from.size()}}, 0, true).code(), Code::cancelled);
  EXPECT_EQ(to, "---------");
  EXPECT_TRUE(run(&copier, {{to.data(), from.data(), from.size()}}, 0, false).ok());
  EXPECT_EQ(to, from);
}

TEST(Copier, SharesALargeBatchOutAndKeepsASmallOneTogether) {
  Copier copier(open_device("cpu", 0).value(), 4);
  constexpr size_t kMib = size_t{1} << 20;
  EXPECT_EQ(copier.job_bytes(16 * kMib, 1024 * kMib), 2 * kMib);
  EXPECT_EQ(copier.job_bytes(1024 * kMib, 1024 * kMib), 4 * kMib);
  EXPECT_EQ(copier.job_bytes(1024 * kMib, 8 * kMib), kMib);
  EXPECT_EQ(copier.job_bytes(kMib / 4, 1024 * kMib), kMib / 2);
}

TEST(Copier, TakesTheDigestsOfRowsWhileItCopiesThem) {
  Copier copier(open_device("cpu", 0).value(), 2);
  ASSERT_TRUE(copier.can_digest(false));
  const std::string from = std::string(200000, 'a') + std::string(70000, 'b') + "the end";
  std::string to(from.size() + 10000, '-');
  // Two rows of two pieces each; what is copied is not in one place on the far side.
  std::vector<CopyPiece> pieces = {{to.data(), from.data() + 70000, 130000},
                                   {to.data() + 130000, from.data(), 5},
                                   {to.data() + 140000, from.data() + 200000, 70007},
                                   {to.data() + 210007, from.data() + 9, 1}};
  const auto digests = std::make_shared<std::vector<Digest>>();
  *digests = {{3, 0}, {4, 0}};
  std::promise<Status> outcome;
  CopyJob job;
  job.pieces = pieces;
  job.digests = digests;
  job.done = [&](const Status& status) { outcome.set_value(status); };
  ASSERT_TRUE(copier.submit(Direction::dump, std::move(job)));
  ASSERT_TRUE(outcome.get_future().get().ok());
  EXPECT_EQ(to.substr(0, 130000), from.substr(70000, 130000));
  EXPECT_EQ(to.substr(140000, 70007), from.substr(200000));
  EXPECT_EQ((*digests)[0], base::digest_128(to.data(), 130005, 3));
  EXPECT_EQ((*digests)[1], base::digest_128(to.data() + 140000, 70008, 4));
}

TEST(Copier, PassesTheDevicesRefusalOn) {
  Copier copier(open_device("cpu", 0).value(), 1);
  EXPECT_EQ(run(&copier, {}, /*event=*/123, false).code(), Code::invalid_argument);
}

TEST(Copier, TakesNothingAfterItWasClosed) {
  Copier copier(open_device("cpu", 0).value(), 1);
  copier.close();
  EXPECT_EQ(run(&copier, {}, 0, false).code(), Code::unavailable);
}

TEST(Platforms, ExplainWhyOneCanNotBeUsed) {
  const Status unknown = open_device("abacus", 0).status();
  EXPECT_EQ(unknown.code(), Code::unavailable);
  EXPECT_NE(unknown.message().find("PLATFORM=abacus"), std::string::npos);
  EXPECT_NE(open_device("cpu", 3).status().message().find("device 3"), std::string::npos);
  ASSERT_FALSE(platforms().empty());
  EXPECT_TRUE(platforms().front().loaded);
}

}  // namespace
}  // namespace ucm::transport
