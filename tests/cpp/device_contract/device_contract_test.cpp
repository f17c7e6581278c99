// SPDX-License-Identifier: Apache-2.0
// What every accelerator's Device owes to the transport.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "device_side.h"
#include "ucm/device.h"

namespace ucm::test {
namespace {

constexpr size_t kArena = size_t{3} << 20;
constexpr size_t kMiB = size_t{1} << 20;

class DeviceContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto opened = open_device(GetParam(), 0);
    ASSERT_TRUE(opened.ok()) << opened.status().to_string();
    device_ = opened.value();
    side_ = make_side();
    ASSERT_TRUE(device_->bind_thread().ok());
    host_ = static_cast<std::byte*>(
        mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_TRUE(device_->register_host(host_, kArena).ok());
    far_ = side_->alloc(kArena);
    pattern_.resize(kArena);
    for (size_t i = 0; i < kArena; i += sizeof i) {
      const size_t word = (i + 1) * 0x9E3779B97F4A7C15ull;
      std::memcpy(&pattern_[i], &word, sizeof word);
    }
  }
  void TearDown() override {
    EXPECT_TRUE(device_->unregister_host(host_).ok());
    munmap(host_, kArena);
    side_->free(far_);
    device_.reset();
    EXPECT_EQ(side_->mistakes(), std::vector<std::string>());
  }

  struct Place {
    size_t host;
    size_t device;
    size_t bytes;
  };
  std::vector<CopyPiece> pieces(const std::vector<Place>& places, Direction direction) const {
    std::vector<CopyPiece> out;
    for (const Place& place : places) {
      std::byte* near = host_ + place.host;
      std::byte* far = far_ + place.device;
      if (direction == Direction::load) {
        out.push_back({far, near, place.bytes});
      } else {
        out.push_back({near, far, place.bytes});
      }
    }
    return out;
  }
  // Moves the places one way and says how many bytes of the whole arena are then wrong.
  size_t wrong_after(const std::vector<Place>& places, Direction direction) {
    const bool load = direction == Direction::load;
    std::vector<std::byte> expected(kArena, std::byte{0x55});
    std::vector<std::byte> seen(expected);
    if (load) {
      std::memcpy(host_, pattern_.data(), kArena);
      side_->write(far_, expected.data(), kArena);
    } else {
      std::memset(host_, 0x55, kArena);
      side_->write(far_, pattern_.data(), kArena);
    }
    for (const Place& place : places) {
      const size_t from = load ? place.host : place.device;
      const size_t to = load ? place.device : place.host;
      std::memcpy(expected.data() + to, pattern_.data() + from, place.bytes);
    }
    const StreamHandle stream = device_->make_stream(direction).value();
    const Status copied = device_->copy(stream, direction, pieces(places, direction));
    EXPECT_TRUE(copied.ok()) << copied.to_string();
    EXPECT_TRUE(device_->synchronize(stream).ok());
    device_->destroy_stream(stream);
    if (load) {
      side_->read(seen.data(), far_, kArena);
    } else {
      std::memcpy(seen.data(), host_, kArena);
    }
    if (std::memcmp(seen.data(), expected.data(), kArena) == 0) return 0;
    size_t wrong = 0;
    for (size_t i = 0; i < kArena; ++i) wrong += seen[i] != expected[i];
    return wrong;
  }
  size_t wrong_both_ways(const std::vector<Place>& places) {
    return wrong_after(places, Direction::load) + wrong_after(places, Direction::dump);
  }
  // Blocks of the host side by side, pages of the device in another order with gaps.
  static std::vector<Place> paged(size_t count, size_t bytes, size_t gap, size_t shift) {
    std::vector<Place> places;
    for (size_t i = 0; i < count; ++i) {
      places.push_back({i * bytes, shift + (i * 7 + 3) % count * (bytes + gap), bytes});
    }
    return places;
  }

  std::unique_ptr<DeviceSide> side_;
  std::shared_ptr<Device> device_;
  std::byte* host_ = nullptr;
  std::byte* far_ = nullptr;
  std::vector<std::byte> pattern_;
};

TEST_P(DeviceContractTest, NothingAndOneBytesAndLargePiecesArrive) {
  EXPECT_EQ(wrong_both_ways({}), 0u);
  EXPECT_EQ(wrong_both_ways({{5, 9, 0}, {17, 33, 1}}), 0u);
  EXPECT_EQ(wrong_both_ways({{4096, 8192, kMiB}, {kMiB + 8192, 2 * kMiB, kMiB / 2 + 5}}), 0u);
}

TEST_P(DeviceContractTest, PagesOfEverySizeArriveWhole) {
  for (const size_t bytes : {size_t{1000}, size_t{4096}, size_t{16} << 10, size_t{64} << 10,
                             size_t{96} << 10, size_t{200} << 10, size_t{512} << 10}) {
    const size_t count = std::min<size_t>(12, (kArena - 64) / (bytes + 64));
    EXPECT_EQ(wrong_both_ways(paged(count, bytes, 64, 0)), 0u) << bytes;
  }
}

TEST_P(DeviceContractTest, RowsAtEqualDistancesArriveWhole) {
  std::vector<Place> places;
  for (size_t i = 0; i < 24; ++i) places.push_back({i * 30000, 512 + i * 90000, 30000});
  EXPECT_EQ(wrong_both_ways(places), 0u);
  places[12].device += 1000;  // no longer equal
  EXPECT_EQ(wrong_both_ways(places), 0u);
}

TEST_P(DeviceContractTest, OddPiecesAtOddPlacesLeaveTheirNeighboursAlone) {
  std::vector<Place> places;
  size_t host = 0;
  size_t device = 0;
  for (size_t bytes = 1; bytes < 400; ++bytes) {
    places.push_back({host + bytes % 5, device + bytes % 17, bytes});
    host += bytes + 5;
    device += bytes + 40 - bytes % 7;
  }
  EXPECT_EQ(wrong_both_ways(places), 0u);
}

TEST_P(DeviceContractTest, TwentyThousandPiecesInOneCallArrive) {
  EXPECT_EQ(wrong_both_ways(paged(20001, 100, 16, 8)), 0u);
}

TEST_P(DeviceContractTest, ACopyWaitsForTheEnginesEvent) {
  constexpr size_t kBytes = kMiB;
  const uintptr_t engine = side_->make_stream();
  const uintptr_t event = side_->make_event();
  const StreamHandle stream = device_->make_stream(Direction::dump).value();
  std::byte* source = far_ + kMiB;
  side_->write(source, pattern_.data(), kBytes);
  for (int round = 0; round < 6; ++round) {
    // The engine writes the page late; without the event the dump would read what was there.
    const std::vector<std::byte> before(kBytes, std::byte{0x11});
    side_->write(far_, before.data(), kBytes);
    side_->copy_inside(far_, source, kBytes, engine);
    side_->record(event, engine);
    ASSERT_TRUE(device_->wait_event(stream, event).ok());
    ASSERT_TRUE(
        device_->copy(stream, Direction::dump, pieces({{0, 0, kBytes}}, Direction::dump)).ok());
    ASSERT_TRUE(device_->synchronize(stream).ok());
    ASSERT_EQ(std::memcmp(host_, pattern_.data(), kBytes), 0) << round;
  }
  EXPECT_TRUE(device_->wait_event(stream, 0).ok());
  device_->destroy_stream(stream);
  side_->synchronize(engine);
  side_->destroy_event(event);
  side_->destroy_stream(engine);
}

TEST_P(DeviceContractTest, AnEnginesStreamWaitsForOurCopies) {
  constexpr size_t kBytes = kMiB;
  const uintptr_t engine = side_->make_stream();
  const StreamHandle stream = device_->make_stream(Direction::load).value();
  const EventHandle event = device_->make_event().value();
  std::byte* target = far_ + kMiB;
  for (int round = 0; round < 6; ++round) {
    std::memcpy(host_, &pattern_[static_cast<size_t>(round)], kBytes);
    ASSERT_TRUE(
        device_->copy(stream, Direction::load, pieces({{0, 0, kBytes}}, Direction::load)).ok());
    ASSERT_TRUE(device_->record(event, stream).ok());
    ASSERT_TRUE(device_->wait_engine(engine, event).ok());
    side_->copy_inside(target, far_, kBytes, engine);
    side_->synchronize(engine);
    std::vector<std::byte> seen(kBytes);
    side_->read(seen.data(), target, kBytes);
    ASSERT_EQ(std::memcmp(seen.data(), &pattern_[static_cast<size_t>(round)], kBytes), 0) << round;
  }
  ASSERT_TRUE(device_->wait_host(event).ok());
  device_->destroy_event(event);
  device_->destroy_stream(stream);
  side_->destroy_stream(engine);
}

TEST_P(DeviceContractTest, ThreadsWithTheirOwnStreamsDoNotDisturbEachOther) {
  constexpr size_t kShare = kArena / 8;
  std::memcpy(host_, pattern_.data(), kArena);
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      failures += !device_->bind_thread().ok();
      const StreamHandle stream = device_->make_stream(Direction::load).value();
      const EventHandle event = device_->make_event().value();
      for (size_t round = 0; round < 8; ++round) {
        std::vector<Place> places;
        for (size_t j = round; j < kShare / 5000; j += 8) {
          places.push_back({i * kShare + j * 5000, i * kShare + j * 5000, 5000});
        }
        failures += !device_->copy(stream, Direction::load, pieces(places, Direction::load)).ok();
        failures += !device_->record(event, stream).ok();
        if (round % 2 == 0) failures += !device_->wait_host(event).ok();
      }
      device_->destroy_stream(stream);
      device_->destroy_event(event);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
  std::vector<std::byte> seen(kArena);
  side_->read(seen.data(), far_, kArena);
  for (size_t i = 0; i < 8; ++i) {
    const size_t at = i * kShare;
    EXPECT_EQ(std::memcmp(&seen[at], &pattern_[at], kShare / 5000 * 5000), 0);
  }
}

TEST_P(DeviceContractTest, MemoryThatWasNotRegisteredIsNotUnregistered) {
  char page[16];
  EXPECT_EQ(device_->unregister_host(page).code(), Code::invalid_argument);
}

TEST_P(DeviceContractTest, ADeviceThatDoesNotExistIsNamed) {
  const Status status = open_device(GetParam(), 77).status();
  EXPECT_EQ(status.code(), Code::unavailable);
  EXPECT_NE(status.message().find("device 77"), std::string::npos);
}

TEST_P(DeviceContractTest, ItSaysWhatItIs) {
  EXPECT_EQ(device_->platform(), GetParam());
  EXPECT_EQ(device_->id(), 0);
  EXPECT_TRUE(device_->asynchronous());
  EXPECT_GE(device_->numa_node(), -1);
  EXPECT_EQ(open_device(GetParam(), 0).value(), device_);
}

INSTANTIATE_TEST_SUITE_P(Devices, DeviceContractTest, ::testing::ValuesIn(device_platforms()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace ucm::test
