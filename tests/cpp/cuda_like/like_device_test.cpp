// SPDX-License-Identifier: Apache-2.0
// The bodies of cuda_like with the CUDA calls, on the simulated runtime: versions and failures.
#include "like_device.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstring>
#include <future>
#include <thread>

#include "cuda_calls.h"
#include "measure.h"
#include "sim_model.h"

namespace ucm::cuda_like {
namespace {

using sim::Model;
using CudaDevice = LikeDevice<CudaCalls>;

class LikeDeviceTest : public ::testing::Test {
 protected:
  static constexpr size_t kBytes = size_t{1} << 20;
  void SetUp() override {
    host_ = static_cast<std::byte*>(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (size_t i = 0; i < kBytes; ++i) host_[i] = static_cast<std::byte>(i * 7 + i / 256);
    void* memory = nullptr;
    ASSERT_EQ(Model::the().alloc(&memory, kBytes), 0);
    far_ = static_cast<std::byte*>(memory);
  }
  void TearDown() override {
    Model::the().driver_version = 13000;
    munmap(host_, kBytes);
    EXPECT_EQ(Model::the().free(far_), 0);
    EXPECT_EQ(Model::the().mistakes(), std::vector<std::string>());
    for (const auto& [name, count] : Model::the().open_things()) EXPECT_EQ(count, 0u) << name;
  }
  // Loads `count` pieces in reverse order and says whether the bytes arrived.
  bool loads(CudaDevice* device, size_t count, size_t bytes) {
    std::memset(far_, 0, kBytes);
    std::vector<CopyPiece> pieces;
    for (size_t i = 0; i < count; ++i) {
      pieces.push_back({far_ + (count - 1 - i) * bytes, host_ + i * bytes, bytes});
    }
    const StreamHandle stream = device->make_stream(Direction::load).value();
    const Status copied = device->copy(stream, Direction::load, pieces);
    device->destroy_stream(stream);
    if (!copied.ok()) return false;
    for (const CopyPiece& piece : pieces) {
      if (std::memcmp(piece.dst, piece.src, piece.bytes) != 0) return false;
    }
    return true;
  }

  std::byte* host_ = nullptr;
  std::byte* far_ = nullptr;
};

TEST_F(LikeDeviceTest, CopiesAreRightAcrossTheChunksThatMemoryWasPinnedIn) {
  CudaDevice device(0, CudaBatch::find(), {true, true, {}}, /*pin_chunk=*/8192);
  ASSERT_TRUE(device.register_host(host_, kBytes).ok());
  EXPECT_TRUE(loads(&device, 2, 300000));  // copies
  EXPECT_TRUE(loads(&device, 50, 9000));   // kernel
  EXPECT_TRUE(device.unregister_host(host_).ok());
}

TEST_F(LikeDeviceTest, PinningThatFailsHalfwayLeavesNothingPinned) {
  CudaDevice device(0, {}, {}, /*pin_chunk=*/8192);
  Model::the().fail("cudaHostRegister", 5);
  const Status status = device.register_host(host_, kBytes);
  EXPECT_EQ(status.code(), Code::device_error);
  EXPECT_NE(status.message().find("platform cuda: device 0: pin host memory"), std::string::npos);
  EXPECT_EQ(device.unregister_host(host_).code(), Code::invalid_argument);
}

TEST_F(LikeDeviceTest, EveryGenerationOfTheBatchCopyIsUsedAndItsAbsenceToo) {
  for (const int driver : {12020, 12080, 12090, 13000, 13010}) {
    Model::the().driver_version = driver;
    const CudaBatch batch = CudaBatch::find();
    EXPECT_EQ(static_cast<bool>(batch), driver >= 12080) << driver;
    CudaDevice device(0, batch, {static_cast<bool>(batch), false, {}});
    ASSERT_TRUE(device.register_host(host_, kBytes).ok());
    const int before = Model::the().calls("cuMemcpyBatchAsync");
    EXPECT_TRUE(loads(&device, 30, 10000)) << driver;
    EXPECT_EQ(Model::the().calls("cuMemcpyBatchAsync") - before, driver >= 12080 ? 1 : 0);
    EXPECT_TRUE(device.unregister_host(host_).ok());
  }
}

TEST_F(LikeDeviceTest, WithoutADriverTheReasonIsOneSentence) {
  Model::the().driver_version = 0;
  const Status none = count_devices<CudaCalls>().status();
  EXPECT_EQ(none.code(), Code::unavailable);
  EXPECT_NE(none.message().find("no NVIDIA driver"), std::string::npos);
}

TEST_F(LikeDeviceTest, AnOldDriverIsNamedWithBothVersions) {
  Model::the().driver_version = 11080;
  Model::the().fail("cudaGetDeviceCount", 0);
  const Status old = count_devices<CudaCalls>().status();
  EXPECT_NE(old.message().find("made for CUDA 11.8 and this module for CUDA 1"), std::string::npos)
      << old.message();
}

TEST_F(LikeDeviceTest, WhatTheDeviceRefusesIsNotChosen) {
  Model::the().fail("copy_pieces", 0);
  const MethodTable without_kernel = measure<CudaCalls>(0, CudaBatch::find());
  EXPECT_TRUE(without_kernel.batch);
  EXPECT_FALSE(without_kernel.kernel);
  Model::the().fail("cuMemcpyBatchAsync", 0);
  const MethodTable without_batch = measure<CudaCalls>(0, CudaBatch::find());
  EXPECT_FALSE(without_batch.batch);
  EXPECT_TRUE(without_batch.kernel);
}

TEST_F(LikeDeviceTest, KernelArgumentsAreNotWrittenAgainBeforeTheirKernelRan) {
  CudaDevice device(0, {}, {false, true, {}});
  ASSERT_TRUE(device.register_host(host_, kBytes).ok());
  const StreamHandle stream = device.make_stream(Direction::load).value();
  sim::Stream* engine = nullptr;
  sim::Event* event = nullptr;
  ASSERT_EQ(Model::the().make_stream(&engine, 0), 0);
  ASSERT_EQ(Model::the().make_event(&event), 0);
  std::promise<void> gate;
  ASSERT_EQ(Model::the().launch([&] { gate.get_future().wait(); }, {}, engine), 0);
  ASSERT_EQ(Model::the().record(event, engine), 0);
  ASSERT_TRUE(device.wait_event(stream, reinterpret_cast<uintptr_t>(event)).ok());
  // More pieces than the ring holds, while no kernel can start.
  std::vector<CopyPiece> pieces;
  for (size_t i = 0; i < 20000; ++i) {
    pieces.push_back({far_ + (19999 - i) * 50, host_ + i * 50, 50});
  }
  const int before = Model::the().calls("copy_pieces");
  std::thread opener([&] {
    // When the ring is full the next arguments have to wait; the pause lets a mistake happen.
    while (Model::the().calls("copy_pieces") - before < 4) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    gate.set_value();
  });
  EXPECT_TRUE(device.copy(stream, Direction::load, pieces).ok());
  EXPECT_TRUE(device.synchronize(stream).ok());
  opener.join();
  size_t wrong = 0;
  for (const CopyPiece& piece : pieces) wrong += std::memcmp(piece.dst, piece.src, 50) != 0;
  EXPECT_EQ(wrong, 0u);
  device.destroy_stream(stream);
  EXPECT_EQ(Model::the().destroy_stream(engine), 0);
  EXPECT_EQ(Model::the().destroy_event(event), 0);
  EXPECT_TRUE(device.unregister_host(host_).ok());
}

TEST_F(LikeDeviceTest, ARefusedCopyIsADeviceErrorThatNamesTheMethod) {
  CudaDevice device(0, {}, {false, true, {}});
  ASSERT_TRUE(device.register_host(host_, kBytes).ok());
  const StreamHandle stream = device.make_stream(Direction::load).value();
  const CopyPiece whole = {far_, host_, kBytes};
  Model::the().fail("cudaMemcpyAsync", 0);
  const Status status = device.copy(stream, Direction::load, std::span(&whole, 1));
  EXPECT_EQ(status.code(), Code::device_error);
  EXPECT_EQ(status.message(), "platform cuda: device 0: copy: injected failure");
  EXPECT_TRUE(device.copy(stream, Direction::load, std::span(&whole, 1)).ok());
  device.destroy_stream(stream);
  EXPECT_TRUE(device.unregister_host(host_).ok());
}

TEST_F(LikeDeviceTest, StreamsThatCanNotBeMadeLeaveNothingBehind) {
  CudaDevice device(0, {}, {false, true, {}});
  for (const char* call : {"cudaStreamCreateWithPriority", "cudaHostAlloc",
                           "cudaHostGetDevicePointer", "cudaEventCreateWithFlags"}) {
    Model::the().fail(call, 0);
    EXPECT_EQ(device.make_stream(Direction::dump).status().code(), Code::device_error) << call;
  }
}

TEST_F(LikeDeviceTest, TheEnginesThreadKeepsItsCurrentDevice) {
  CudaDevice device(1, {}, {});
  ASSERT_EQ(CudaCalls::set_device(0), 0);
  ASSERT_TRUE(device.register_host(host_, kBytes).ok());
  device.destroy_event(device.make_event().value());
  EXPECT_TRUE(device.unregister_host(host_).ok());
  int current = -1;
  ASSERT_EQ(CudaCalls::get_device(&current), 0);
  EXPECT_EQ(current, 0);
}

}  // namespace
}  // namespace ucm::cuda_like
