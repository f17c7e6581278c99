// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <latch>
#include <system_error>
#include <thread>

#include "ucm/device.h"

namespace ucm {
namespace transport {
namespace {

using Clock = std::chrono::steady_clock;

// Host memory and device memory, one half for each direction.
class Arena {
 public:
  Arena(Device* device, size_t bytes) : device_(device), half_(bytes / 2) {}
  ~Arena() {
    if (far_) device_->free_memory(far_);
    if (pinned_) (void)device_->unregister_host(host_);
    if (host_) munmap(host_, 2 * half_);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  Status open() {
    void* memory =
        mmap(nullptr, 2 * half_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      return make_status(Code::out_of_memory, "copy figures: %zu bytes of host memory", 2 * half_);
    }
    host_ = static_cast<std::byte*>(memory);
    (void)madvise(host_, 2 * half_, MADV_HUGEPAGE);
    for (size_t at = 0; at < half_; at += sizeof at) {
      const size_t word = (at + 1) * 0x9E3779B97F4A7C15ull;
      std::memcpy(host_ + at, &word, sizeof word);
    }
    std::memset(host_ + half_, 1, half_);
    const Status pinned = device_->register_host(host_, 2 * half_);
    pinned_ = pinned.ok();
    if (!pinned_ && pinned.code() != Code::unsupported) return pinned;
    UCM_TRY_ASSIGN(void* const far, device_->alloc_memory(2 * half_));
    far_ = static_cast<std::byte*>(far);
    return {};
  }
  bool pinned() const { return pinned_; }
  size_t half() const { return half_; }
  std::byte* near(size_t which) const { return host_ + which * half_; }
  std::byte* far(size_t which) const { return far_ + which * half_; }

 private:
  Device* const device_;
  const size_t half_;
  std::byte* host_ = nullptr;
  std::byte* far_ = nullptr;
  bool pinned_ = false;
};

// A way of cutting a half into pieces.
struct Cut {
  std::string method;
  size_t piece_bytes;
  bool pitched;

  size_t stride() const { return pitched ? 2 * piece_bytes : piece_bytes; }
  size_t count(size_t half) const { return half / stride(); }
  // Where piece i lies on the device: 7 and a power of two have no common factor.
  size_t place(size_t i, size_t half) const {
    return pitched || count(half) < 8 ? i : (i * 7 + 3) % count(half);
  }
};

std::vector<CopyPiece> pieces_of(const Cut& cut, Direction direction, std::byte* near,
                                 std::byte* far, size_t half) {
  std::vector<CopyPiece> pieces;
  for (size_t i = 0; i < cut.count(half); ++i) {
    std::byte* here = near + i * cut.stride();
    std::byte* there = far + cut.place(i, half) * cut.stride();
    if (direction == Direction::load) {
      pieces.push_back({there, here, cut.piece_bytes});
    } else {
      pieces.push_back({here, there, cut.piece_bytes});
    }
  }
  return pieces;
}

class Bench {
 public:
  Bench(Device* device, const Arena& arena, int rounds)
      : device_(device), arena_(arena), rounds_(rounds) {}

  Result<CopyFigure> row(const Cut& cut) const {
    CopyFigure figure;
    figure.method = cut.method;
    figure.piece_bytes = cut.piece_bytes;
    figure.pieces = cut.count(arena_.half());
    UCM_TRY_ASSIGN(figure.load, run(cut, Direction::load, nullptr));
    UCM_TRY_ASSIGN(figure.dump, run(cut, Direction::dump, nullptr));
    UCM_TRY_ASSIGN(figure.both, run_both(cut));
    UCM_TRY(compare(cut));
    return figure;
  }

 private:
  // A stream that copies in the cut's way.
  Result<StreamHandle> open(const Cut& cut, Direction direction) const {
    UCM_TRY(device_->bind_thread());
    UCM_TRY_ASSIGN(const StreamHandle stream, device_->make_stream(direction));
    if (cut.method == kOneLargeCopy) return stream;
    if (Status status = device_->use_method(stream, cut.method); !status.ok()) {
      device_->destroy_stream(stream);
      return status;
    }
    return stream;
  }
  Status move(StreamHandle stream, Direction direction, std::span<const CopyPiece> pieces) const {
    Status status = device_->copy(stream, direction, pieces);
    const Status ended = device_->synchronize(stream);
    return status.ok() ? ended : status;
  }
  // GB/s of one direction. `start`: who else begins at the same time.
  Result<double> run(const Cut& cut, Direction direction, std::latch* start) const {
    const Result<StreamHandle> stream = open(cut, direction);
    if (start) start->arrive_and_wait();
    UCM_TRY(stream.status());
    const size_t which = direction == Direction::load ? 0 : 1;
    const std::vector<CopyPiece> pieces =
        pieces_of(cut, direction, arena_.near(which), arena_.far(which), arena_.half());
    const double bytes = static_cast<double>(pieces.size() * cut.piece_bytes);
    std::vector<double> rates;
    Status status;
    for (int round = 0; round <= rounds_ && status.ok(); ++round) {
      const auto begin = Clock::now();
      status = move(stream.value(), direction, pieces);
      const std::chrono::duration<double> spent = Clock::now() - begin;
      if (round > 0) rates.push_back(bytes / spent.count() / 1e9);
    }
    device_->destroy_stream(stream.value());
    UCM_TRY(status);
    std::sort(rates.begin(), rates.end());
    return rates[rates.size() / 2];
  }
  Result<double> run_both(const Cut& cut) const {
    std::latch start(2);
    Result<double> load = 0.0;
    std::thread other;
    try {
      other = std::thread([&] { load = run(cut, Direction::load, &start); });
    } catch (const std::system_error&) {
      return make_status(Code::unavailable, "copy figures: no thread left; raise ulimit -u");
    }
    const Result<double> dump = run(cut, Direction::dump, &start);
    other.join();
    UCM_TRY(load.status());
    UCM_TRY(dump.status());
    return load.value() + dump.value();
  }
  // Down with the pattern and up again to the other half.
  Status compare(const Cut& cut) const {
    const size_t half = arena_.half();
    std::memset(arena_.near(1), 0, half);
    for (const Direction direction : {Direction::load, Direction::dump}) {
      const size_t which = direction == Direction::load ? 0 : 1;
      UCM_TRY_ASSIGN(const StreamHandle stream, open(cut, direction));
      const Status status = move(
          stream, direction, pieces_of(cut, direction, arena_.near(which), arena_.far(0), half));
      device_->destroy_stream(stream);
      UCM_TRY(status);
    }
    for (size_t i = 0; i < cut.count(half); ++i) {
      const size_t at = i * cut.stride();
      if (std::memcmp(arena_.near(0) + at, arena_.near(1) + at, cut.piece_bytes) == 0) continue;
      return make_status(Code::corruption,
                         "copy figures: piece %zu of %zu bytes came back with other content (%s)",
                         i, cut.piece_bytes, cut.method.c_str());
    }
    return {};
  }

  Device* const device_;
  const Arena& arena_;
  const int rounds_;
};

std::vector<Cut> cuts_of(Device* device, const CopySurvey& survey) {
  std::vector<Cut> cuts = {{kOneLargeCopy, survey.bytes / 2, false}};
  for (const std::string& method : device->copy_methods()) {
    for (const size_t bytes : survey.piece_bytes)
      cuts.push_back({method, bytes, method == "pitched"});
  }
  return cuts;
}

Status check(const CopySurvey& survey) {
  const size_t half = survey.bytes / 2;
  const bool good = survey.rounds > 0 && half > 0 && half % 4096 == 0 &&
                    std::ranges::all_of(survey.piece_bytes, [half](size_t bytes) {
                      return bytes > 0 && half % bytes == 0 && half / bytes >= 2 &&
                             ((half / bytes) & (half / bytes - 1)) == 0;
                    });
  if (good) return {};
  return make_status(Code::invalid_argument,
                     "copy figures: %zu bytes both ways and %d rounds; a piece size fits 2, 4, 8, "
                     "... times into one way",
                     survey.bytes, survey.rounds);
}

}  // namespace
}  // namespace transport

Result<CopyFigures> measure_copies(Device* device, const CopySurvey& survey) {
  UCM_TRY(transport::check(survey));
  UCM_TRY(device->bind_thread());
  transport::Arena arena(device, survey.bytes);
  UCM_TRY(arena.open());
  CopyFigures figures;
  figures.pinned = arena.pinned();
  const transport::Bench bench(device, arena, survey.rounds);
  for (const transport::Cut& cut : transport::cuts_of(device, survey)) {
    if (survey.on_row && !survey.on_row(cut.method, cut.piece_bytes)) {
      return make_status(Code::cancelled, "copy figures: ended by the caller");
    }
    UCM_TRY_ASSIGN(CopyFigure figure, bench.row(cut));
    figures.rows.push_back(std::move(figure));
  }
  return figures;
}

}  // namespace ucm
