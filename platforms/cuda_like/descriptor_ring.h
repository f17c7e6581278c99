// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>

#include "piece_walk.h"

namespace ucm::cuda_like {

// Kernel arguments in mapped host memory: a few segments, each guarded by an event, so that none is
// written again while a kernel may still read it. Belongs to one stream and its thread.
template <class Rt>
class DescriptorRing {
 public:
  static constexpr size_t kSegments = 4;
  static constexpr size_t kPerSegment = 4096;

  struct Segment {
    DevicePiece* host = nullptr;
    const DevicePiece* device = nullptr;
    typename Rt::Event used_until{};
    bool flying = false;
  };

  // Nonzero: the vendor's error; `close` undoes what was done.
  int open() {
    const size_t bytes = kSegments * kPerSegment * sizeof(DevicePiece);
    void* device = nullptr;
    if (int error = Rt::alloc_host(&memory_, bytes)) return error;
    if (int error = Rt::device_address(&device, memory_)) return error;
    for (size_t i = 0; i < kSegments; ++i) {
      Segment& segment = segments_[i];
      segment.host = static_cast<DevicePiece*>(memory_) + i * kPerSegment;
      segment.device = static_cast<DevicePiece*>(device) + i * kPerSegment;
      if (int error = Rt::make_event(&segment.used_until)) return error;
      ++events_;
    }
    return 0;
  }

  // The next segment; sleeps until its last kernel is done.
  int acquire(Segment** out) {
    Segment& segment = segments_[next_];
    next_ = (next_ + 1) % kSegments;
    if (segment.flying) {
      if (int error = Rt::event_wait(segment.used_until)) return error;
      segment.flying = false;
    }
    *out = &segment;
    return 0;
  }

  // After the launch that reads the segment.
  int release(Segment* segment, typename Rt::Stream stream) {
    if (int error = Rt::record(segment->used_until, stream)) return error;
    segment->flying = true;
    return 0;
  }

  // When the stream is idle.
  void close() {
    for (size_t i = 0; i < events_; ++i) (void)Rt::destroy_event(segments_[i].used_until);
    events_ = 0;
    if (memory_) (void)Rt::free_host(memory_);
    memory_ = nullptr;
  }

 private:
  void* memory_ = nullptr;
  std::array<Segment, kSegments> segments_{};
  size_t events_ = 0;
  size_t next_ = 0;
};

}  // namespace ucm::cuda_like
