// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "copy_method.h"
#include "like_device.h"
#include "ucm/log.h"

// The table a device's method is chosen from: measured once per device and process.
namespace ucm::cuda_like {

inline constexpr size_t kTrialBytes = size_t{4} << 20;

// Times of one way of copying, by direction and piece size.
using TrialTimes = std::array<std::array<std::chrono::nanoseconds, 2>, 2>;
inline constexpr std::array<size_t, 2> kTrialSizes = {kKernelSurely, 2 * kKernelSurely};

// Copies scattered pieces both ways through a device with a given table.
template <class Rt>
class CopyTrial {
 public:
  CopyTrial(int id, typename Rt::Batch batch, const MethodTable& methods)
      : device_(id, batch, methods), host_(new (std::align_val_t{4096}) std::byte[kTrialBytes]) {}
  ~CopyTrial() {
    if (far_) (void)Rt::free(far_);
    if (registered_) (void)device_.unregister_host(host_.get());
  }
  CopyTrial(const CopyTrial&) = delete;
  CopyTrial& operator=(const CopyTrial&) = delete;

  // False when a copy is refused.
  bool run(TrialTimes* times) {
    if (Rt::alloc(&far_, kTrialBytes) != 0) return false;
    registered_ = device_.register_host(host_.get(), kTrialBytes).ok();
    if (!registered_) return false;
    for (const Direction direction : {Direction::load, Direction::dump}) {
      for (size_t i = 0; i < kTrialSizes.size(); ++i) {
        auto& best = (*times)[static_cast<size_t>(direction)][i];
        if (!time(direction, kTrialSizes[i], &best)) return false;
      }
    }
    return true;
  }

 private:
  struct Unaligned {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t{4096});
    }
  };

  bool time(Direction direction, size_t piece_bytes, std::chrono::nanoseconds* best) {
    auto stream = device_.make_stream(direction);
    if (!stream.ok()) return false;
    const std::vector<CopyPiece> pieces = scattered(direction, piece_bytes);
    *best = std::chrono::nanoseconds::max();
    bool good = true;
    for (int round = 0; good && round < 3; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      good = device_.copy(stream.value(), direction, pieces).ok() &&
             device_.synchronize(stream.value()).ok();
      *best = std::min<std::chrono::nanoseconds>(*best, std::chrono::steady_clock::now() - begin);
    }
    device_.destroy_stream(stream.value());
    return good;
  }

  // In an order that neither joins pieces nor puts them at equal distances.
  std::vector<CopyPiece> scattered(Direction direction, size_t piece_bytes) const {
    std::vector<CopyPiece> pieces;
    const size_t count = kTrialBytes / piece_bytes;
    for (size_t i = 0; i < count; ++i) {
      auto* far = static_cast<std::byte*>(far_) + (i * 7 + 3) % count * piece_bytes;
      auto* near = host_.get() + i * piece_bytes;
      if (direction == Direction::load) {
        pieces.push_back({far, near, piece_bytes});
      } else {
        pieces.push_back({near, far, piece_bytes});
      }
    }
    return pieces;
  }

  LikeDevice<Rt> device_;
  std::unique_ptr<std::byte[], Unaligned> host_;
  void* far_ = nullptr;
  bool registered_ = false;
};

// What the device can do is tried, not believed: a method that is refused is never chosen.
template <class Rt>
MethodTable measure(int id, typename Rt::Batch batch) {
  MethodTable table;
  table.batch = static_cast<bool>(batch);
  TrialTimes engine{};
  if (table.batch && !CopyTrial<Rt>(id, batch, table).run(&engine)) {
    log(LogLevel::info, "platform %s: device %d refuses batch copies", Rt::kPlatform, id);
    table.batch = false;
  }
  if (!Rt::kKernels) return table;
  if (!table.batch && !CopyTrial<Rt>(id, batch, table).run(&engine)) return table;
  TrialTimes kernel{};
  MethodTable always = table;
  always.kernel = true;
  always.kernel_below = {kCopySurely, kCopySurely};
  table.kernel = CopyTrial<Rt>(id, batch, always).run(&kernel);
  if (!table.kernel) {
    log(LogLevel::info, "platform %s: device %d refuses copy kernels", Rt::kPlatform, id);
    return table;
  }
  for (size_t way = 0; way < 2; ++way) {
    for (size_t i = 0; i < kTrialSizes.size(); ++i) {
      if (kernel[way][i] < engine[way][i]) table.kernel_below[way] = kTrialSizes[i] + 1;
    }
  }
  log(LogLevel::info, "platform %s: device %d: kernel copies below %zu (load) and %zu (dump) bytes",
      Rt::kPlatform, id, std::max(kKernelSurely, table.kernel_below[0]),
      std::max(kKernelSurely, table.kernel_below[1]));
  return table;
}

// The device, with a table that is measured when this process opens it for the first time.
template <class Rt>
Result<std::unique_ptr<Device>> make_device(int id) {
  static std::mutex mutex;
  static std::map<int, MethodTable> tables;
  const std::lock_guard lock(mutex);
  const CurrentDevice<Rt> current(id);
  if (current.error() != 0) {
    return make_status(Code::unavailable, "platform %s: device %d: %s", Rt::kPlatform, id,
                       Rt::text(current.error()));
  }
  const typename Rt::Batch batch = Rt::find_batch();
  const auto known = tables.find(id);
  const MethodTable table = known != tables.end() ? known->second : measure<Rt>(id, batch);
  tables[id] = table;
  return std::unique_ptr<Device>(std::make_unique<LikeDevice<Rt>>(id, batch, table));
}

template <class Rt>
Result<int> count_devices() {
  int count = 0;
  if (Rt::device_count(&count) != 0 || count == 0) {
    return make_status(Code::unavailable, "platform %s: %s", Rt::kPlatform, Rt::unusable().c_str());
  }
  return count;
}

}  // namespace ucm::cuda_like
