// SPDX-License-Identifier: Apache-2.0
// Loads layer by layer, for which an engine's stream waits in the host's place.
#include "device_pages.h"

namespace ucm::test {
namespace {

class DeviceLayersTest : public DeviceStoreTest {
 protected:
  // The pages of one layer of some blocks.
  struct Layer {
    Layer(DeviceSide* side, const BlockLayout& layout, uint32_t number, size_t blocks)
        : shards(blocks, number), pages(side, layout, blocks) {}
    std::vector<uint32_t> shards;
    DevicePages pages;
    TaskPtr task;
  };

  std::vector<std::unique_ptr<Layer>> make_layers() {
    std::vector<std::unique_ptr<Layer>> layers;
    for (uint32_t shard = 0; shard < layout_.shards(); ++shard) {
      layers.push_back(std::make_unique<Layer>(side_.get(), layout_, shard, keys_.size()));
    }
    return layers;
  }
  void dump(Pipeline* store) {
    EngineStream engine(side_.get());
    for (const auto& layer : make_layers()) {
      layer->pages.fill(keys_, layer->shards, engine.stream());
      const TaskPtr task = store->dump(batch(keys_, layer->shards, layer->pages, engine.mark()));
      ASSERT_TRUE(task->wait(kPatience).ok()) << task->status().to_string();
    }
  }

  const std::vector<BlockKey> keys_ = make_keys(0, 24);
};

TEST_P(DeviceLayersTest, TheHostGoesOnWhileTheEnginesStreamWaitsForTheCopies) {
  const auto store = open("Cache", 40);
  ASSERT_NE(store, nullptr);
  dump(store.get());
  auto layers = make_layers();
  EngineStream before(side_.get());
  EngineStream compute(side_.get());
  for (const auto& layer : layers) layer->pages.spoil(before.stream());
  // No copy can end before the engine's earlier work, which ends when we say so.
  const auto let_go = side_->hold(before.stream());
  const uintptr_t start = before.mark();
  for (const auto& layer : layers) {
    layer->task = store->load(batch(keys_, layer->shards, layer->pages, start));
  }
  for (const auto& layer : layers) {
    EXPECT_TRUE(layer->task->wait_started(kPatience).ok());
    EXPECT_TRUE(layer->task->order_stream(compute.stream()).ok());
    layer->pages.see(compute.stream());
    EXPECT_FALSE(layer->task->done());
    EXPECT_FALSE(layer->task->released());
  }
  let_go();
  for (const auto& layer : layers) {
    EXPECT_EQ(layer->pages.wrong_bytes_seen(keys_, layer->shards, {}, compute.stream()), 0u);
    EXPECT_TRUE(layer->task->wait(kPatience).ok()) << layer->task->status().to_string();
  }
}

TEST_P(DeviceLayersTest, BlocksThatComeFromBelowAreWaitedForAndThenOrdered) {
  for (const std::string spec : {"Cache|Posix", "Cache|Disk", "Disk"}) {
    SCOPED_TRACE(spec);
    dump(open(spec, 40).get());
    const auto store = open(spec, 40);
    auto layers = make_layers();
    EngineStream compute(side_.get());
    for (const auto& layer : layers) {
      layer->pages.spoil(compute.stream());
      layer->task = store->load(batch(keys_, layer->shards, layer->pages, compute.mark()));
    }
    for (const auto& layer : layers) {
      ASSERT_TRUE(layer->task->wait_started(kPatience).ok());
      ASSERT_TRUE(layer->task->order_stream(compute.stream()).ok());
      EXPECT_EQ(layer->pages.wrong_bytes(keys_, layer->shards, {}, compute.stream()), 0u);
    }
    for (const auto& layer : layers) EXPECT_TRUE(layer->task->wait(kPatience).ok());
    store->close();
    std::filesystem::remove_all(folder_);
  }
}

TEST_P(DeviceLayersTest, RowsThatAreNotThereFailAndTheOthersAreOrdered) {
  const auto store = open("Cache", 40);
  dump(store.get());
  std::vector<BlockKey> keys = keys_;
  keys[7] = make_keys(1000, 1).front();
  auto layers = make_layers();
  Layer& layer = *layers.front();
  EngineStream compute(side_.get());
  layer.pages.spoil(compute.stream());
  const TaskPtr task = store->load(batch(keys, layer.shards, layer.pages, compute.mark()));
  EXPECT_EQ(task->wait_started(kPatience).code(), Code::not_found);
  EXPECT_TRUE(task->order_stream(compute.stream()).ok());
  EXPECT_EQ(layer.pages.wrong_bytes(keys, layer.shards, {7}, compute.stream()), 0u);
  EXPECT_EQ(task->wait(kPatience).code(), Code::not_found);
  EXPECT_EQ(task->failed_rows(), std::vector<uint32_t>{7});
}

TEST_P(DeviceLayersTest, AStreamDoesNotWaitForCopiesThatAreComplete) {
  const auto store = open("Cache", 40);
  dump(store.get());
  auto layers = make_layers();
  Layer& layer = *layers.front();
  EngineStream before(side_.get());
  EngineStream compute(side_.get());
  const TaskPtr first = store->load(batch(keys_, layer.shards, layer.pages, 0));
  ASSERT_TRUE(first->wait(kPatience).ok());
  // What the first load's place on its stream was may be the second's by now.
  const auto let_go = side_->hold(before.stream());
  const TaskPtr second =
      store->load(batch(keys_, layer.shards, layers.back()->pages, before.mark()));
  ASSERT_TRUE(second->wait_started(kPatience).ok());
  ASSERT_TRUE(first->order_stream(compute.stream()).ok());
  side_->synchronize(compute.stream());
  EXPECT_FALSE(second->done());
  let_go();
  EXPECT_TRUE(second->wait(kPatience).ok());
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceLayersTest, ::testing::ValuesIn(device_platforms()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ucm::test
