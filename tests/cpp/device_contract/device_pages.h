// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "device_side.h"
#include "test_blocks.h"
#include "ucm/pipeline.h"

namespace ucm::test {

// Device memory for the pieces of some rows, as an engine's paged cache has it: neighbours in
// memory are strangers, and there are gaps. `stage` is a second copy that engine kernels read from
// or write to.
class DevicePages {
 public:
  static constexpr size_t kGap = 48;

  DevicePages(DeviceSide* side, const BlockLayout& layout, size_t rows)
      : side_(side), layout_(layout), rows_(rows) {
    row_bytes_ = layout.shard_bytes() + layout.pieces() * kGap;
    memory_ = side->alloc(rows * row_bytes_);
    stage_ = side->alloc(rows * row_bytes_);
    for (size_t row = 0; row < rows; ++row) {
      size_t at = (row * 7 + 3) % rows * row_bytes_;
      for (const size_t bytes : layout.piece_bytes()) {
        addresses_.push_back(reinterpret_cast<uintptr_t>(memory_ + at));
        at += bytes + kGap;
      }
    }
  }
  ~DevicePages() {
    side_->free(memory_);
    side_->free(stage_);
  }
  DevicePages(const DevicePages&) = delete;
  DevicePages& operator=(const DevicePages&) = delete;

  std::span<const uintptr_t> addresses() const { return addresses_; }
  size_t bytes() const { return rows_ * row_bytes_; }

  // Late, on the engine's stream: the content of the rows, or junk, into the pages.
  void fill(const std::vector<BlockKey>& keys, const std::vector<uint32_t>& shards,
            uintptr_t stream) {
    std::vector<std::byte> host(bytes(), std::byte{0xA5});
    for (size_t row = 0; row < keys.size(); ++row) {
      each_piece(row, [&](size_t at, size_t offset, size_t length) {
        for (size_t i = 0; i < length; ++i) {
          host[at + i] = content(keys[row], shards[row] * layout_.shard_bytes() + offset + i);
        }
      });
    }
    put(host, stream);
  }
  void spoil(uintptr_t stream) {
    const std::vector<std::byte> junk(bytes(), std::byte{0xEE});
    put(junk, stream);
  }
  // What a kernel that starts now on the engine's stream sees: wrong bytes of the rows asked for.
  size_t wrong_bytes(const std::vector<BlockKey>& keys, const std::vector<uint32_t>& shards,
                     const std::vector<uint32_t>& failed, uintptr_t stream) {
    see(stream);
    return wrong_bytes_seen(keys, shards, failed, stream);
  }
  // What a kernel does that is enqueued now, and what it saw once the stream has come there.
  void see(uintptr_t stream) { side_->copy_inside(stage_, memory_, bytes(), stream); }
  size_t wrong_bytes_seen(const std::vector<BlockKey>& keys, const std::vector<uint32_t>& shards,
                          const std::vector<uint32_t>& failed, uintptr_t stream) {
    side_->synchronize(stream);
    std::vector<std::byte> host(bytes());
    side_->read(host.data(), stage_, host.size());
    size_t wrong = 0;
    for (size_t row = 0; row < keys.size(); ++row) {
      if (std::binary_search(failed.begin(), failed.end(), static_cast<uint32_t>(row))) continue;
      each_piece(row, [&](size_t at, size_t offset, size_t length) {
        for (size_t i = 0; i < length; ++i) {
          wrong +=
              host[at + i] != content(keys[row], shards[row] * layout_.shard_bytes() + offset + i);
        }
      });
    }
    return wrong;
  }

 private:
  void put(const std::vector<std::byte>& host, uintptr_t stream) {
    side_->synchronize(stream);  // the stage is the engine's until its last kernel is done
    side_->write(stage_, host.data(), host.size());
    side_->copy_inside(memory_, stage_, bytes(), stream);
  }
  template <typename Visit>
  void each_piece(size_t row, Visit visit) const {
    size_t offset = 0;
    for (size_t j = 0; j < layout_.pieces(); ++j) {
      const size_t at =
          addresses_[row * layout_.pieces() + j] - reinterpret_cast<uintptr_t>(memory_);
      visit(at, offset, layout_.piece_bytes()[j]);
      offset += layout_.piece_bytes()[j];
    }
  }

  DeviceSide* const side_;
  const BlockLayout layout_;
  const size_t rows_;
  size_t row_bytes_ = 0;
  std::byte* memory_ = nullptr;
  std::byte* stage_ = nullptr;
  std::vector<uintptr_t> addresses_;
};

// A stream and an event of the engine.
class EngineStream {
 public:
  explicit EngineStream(DeviceSide* side)
      : side_(side), stream_(side->make_stream()), event_(side->make_event()) {}
  ~EngineStream() {
    side_->synchronize(stream_);
    side_->destroy_event(event_);
    side_->destroy_stream(stream_);
  }
  EngineStream(const EngineStream&) = delete;
  EngineStream& operator=(const EngineStream&) = delete;

  uintptr_t stream() const { return stream_; }
  // The event after everything that was enqueued until now.
  uintptr_t mark() {
    side_->record(event_, stream_);
    return event_;
  }

 private:
  DeviceSide* const side_;
  const uintptr_t stream_;
  const uintptr_t event_;
};

// A pipeline for one accelerator with its files in a folder of its own.
class DeviceStoreTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "ucm-device-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    side_ = make_side();
  }
  void TearDown() override {
    std::filesystem::remove_all(folder_);
    EXPECT_EQ(side_->mistakes(), std::vector<std::string>());
  }
  std::unique_ptr<Pipeline> open(const std::string& spec, int64_t slots) {
    PipelineConfig config;
    config.spec = spec;
    config.layout = layout_;
    config.options = {{"platform", GetParam()},      {"device_id", int64_t{0}},
                      {"storage_backends", folder_}, {"capacity_bytes", int64_t{64} << 20},
                      {"buffer_number", slots},      {"timeout_s", 20.0}};
    auto opened = Pipeline::open(config);
    EXPECT_TRUE(opened.ok()) << opened.status().to_string();
    return opened.ok() ? std::move(opened).value() : nullptr;
  }
  Batch batch(const std::vector<BlockKey>& keys, const std::vector<uint32_t>& shards,
              const DevicePages& pages, uintptr_t event) const {
    Batch batch;
    batch.keys = keys;
    batch.shards = shards;
    batch.addresses = pages.addresses().first(keys.size() * layout_.pieces());
    batch.event = event;
    return batch;
  }

  // Small pages, pages of an odd size and one that the copy engine takes.
  BlockLayout layout_ = BlockLayout::make({4096, 1000, 20000}, 3, 5).value();
  std::string folder_;
  std::unique_ptr<DeviceSide> side_;
};

}  // namespace ucm::test
