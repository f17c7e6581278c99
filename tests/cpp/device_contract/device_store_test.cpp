// SPDX-License-Identifier: Apache-2.0
// What a pipeline owes to an engine whose KV lies on an accelerator.
#include <array>

#include "device_pages.h"

namespace ucm::test {
namespace {

constexpr std::array kSpecs = {"Cache", "Cache|Posix", "Cache|Disk", "Posix", "Disk"};

bool keeps_blocks_after_close(const std::string& spec) { return spec != "Cache"; }

TEST_P(DeviceStoreTest, WhatIsDumpedLayerByLayerComesBackThroughEveryPipeline) {
  const auto keys = make_keys(0, 24);
  for (const std::string spec : kSpecs) {
    SCOPED_TRACE(spec);
    DevicePages pages(side_.get(), layout_, keys.size());
    EngineStream engine(side_.get());
    auto store = open(spec, 40);
    ASSERT_NE(store, nullptr);
    for (uint32_t shard = 0; shard < layout_.shards(); ++shard) {
      const std::vector<uint32_t> shards(keys.size(), shard);
      pages.fill(keys, shards, engine.stream());
      const TaskPtr task = store->dump(batch(keys, shards, pages, engine.mark()));
      ASSERT_TRUE(task->wait_released(kPatience).ok());
      // The pages are the engine's again, whatever still happens to the blocks.
      pages.spoil(engine.stream());
      ASSERT_TRUE(task->wait(kPatience).ok()) << task->status().to_string();
    }
    if (keeps_blocks_after_close(spec)) {
      store->close();
      store = open(spec, 40);
    }
    for (uint32_t shard = 0; shard < layout_.shards(); ++shard) {
      const std::vector<uint32_t> shards(keys.size(), shard);
      pages.spoil(engine.stream());
      const TaskPtr task = store->load(batch(keys, shards, pages, engine.mark()));
      ASSERT_TRUE(task->wait(kPatience).ok()) << task->status().to_string();
      EXPECT_EQ(pages.wrong_bytes(keys, shards, {}, engine.stream()), 0u) << shard;
    }
    store->close();
    std::filesystem::remove_all(folder_);
  }
}

TEST_P(DeviceStoreTest, ClosingWithCopiesUnderWayLeavesNothingMoving) {
  const auto keys = make_keys(0, 60);
  for (int round = 0; round < 4; ++round) {
    DevicePages pages(side_.get(), layout_, keys.size());
    EngineStream engine(side_.get());
    auto store = open("Cache", 80);
    const std::vector<uint32_t> shards(keys.size(), 0);
    pages.fill(keys, shards, engine.stream());
    std::vector<TaskPtr> tasks;
    tasks.push_back(store->dump(batch(keys, shards, pages, engine.mark())));
    tasks.push_back(store->load(batch(keys, shards, pages, 0)));
    store->close();
    for (const TaskPtr& task : tasks) EXPECT_TRUE(task->done());
  }  // the pages are freed here: the device notices a copy that still runs
}

TEST_P(DeviceStoreTest, ACancelledTaskMovesNothingAfterItWasReleased) {
  const auto keys = make_keys(0, 60);
  auto store = open("Cache", 80);
  for (int round = 0; round < 8; ++round) {
    DevicePages pages(side_.get(), layout_, keys.size());
    EngineStream engine(side_.get());
    const std::vector<uint32_t> shards(keys.size(), static_cast<uint32_t>(round % 3));
    pages.fill(keys, shards, engine.stream());
    const TaskPtr task = store->dump(batch(keys, shards, pages, engine.mark()));
    task->cancel();
    EXPECT_NE(task->wait_released(kPatience).code(), Code::timeout);
  }
}

TEST_P(DeviceStoreTest, HostMemoryGoesInAndOutOfTheSameStore) {
  const auto keys = make_keys(0, 10);
  const auto store = open("Cache", 20);
  std::vector<BlockKey> row_keys;
  std::vector<uint32_t> shards;
  all_rows(layout_, keys, &row_keys, &shards);
  Buffers buffers(layout_, row_keys.size());
  for (size_t i = 0; i < row_keys.size(); ++i) buffers.fill(i, row_keys[i], shards[i]);
  Batch host = make_batch(row_keys, shards, buffers);
  host.on_host = true;
  ASSERT_TRUE(store->dump(host)->wait(kPatience).ok());
  DevicePages pages(side_.get(), layout_, row_keys.size());
  EngineStream engine(side_.get());
  ASSERT_TRUE(store->load(batch(row_keys, shards, pages, 0))->wait(kPatience).ok());
  EXPECT_EQ(pages.wrong_bytes(row_keys, shards, {}, engine.stream()), 0u);
  buffers.wipe();
  ASSERT_TRUE(store->load(host)->wait(kPatience).ok());
  for (size_t i = 0; i < row_keys.size(); ++i) {
    ASSERT_EQ(buffers.wrong_bytes(i, row_keys[i], shards[i]), 0u) << i;
  }
}

TEST_P(DeviceStoreTest, AnUnknownDeviceIsRefusedWhenThePipelineOpens) {
  PipelineConfig config;
  config.spec = "Cache";
  config.layout = layout_;
  config.options = {{"platform", GetParam()}, {"device_id", int64_t{9}}};
  const Status status = Pipeline::open(config).status();
  EXPECT_EQ(status.code(), Code::unavailable);
  EXPECT_NE(status.message().find("device 9 does not exist"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceStoreTest, ::testing::ValuesIn(device_platforms()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ucm::test
