// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ucm/status.h"

namespace ucm {

// A name of 1 to 64 letters, digits, dots, dashes and underscores that starts with a letter or a
// digit, so that it may stand in a file name.
Status check_namespace(std::string_view name);

// The capacity of a stage, divided by namespace: a share for each that has a quota, and one for the
// rest, which all others use together. A plain value.
class Quotas {
 public:
  static constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

  Quotas() = default;
  // `entries`: "name=40%" or "name=1073741824"; capacity 0: no limit. invalid_argument when an
  // entry can not be understood or all of them together are more than the capacity.
  static Result<Quotas> make(std::span<const std::string> entries, uint64_t capacity_bytes);

  bool empty() const { return names_.empty(); }
  // The last one is the rest.
  size_t shares() const { return names_.size() + 1; }
  size_t share_of(std::string_view name) const;
  // "(rest)" for the rest.
  const std::string& name(size_t share) const;
  // invalid_argument when nothing at all is left for blocks of this namespace.
  Status check_room(std::string_view name) const;
  // The name of the share that blocks of a namespace are counted in, from the entries alone.
  static std::string share_name(std::span<const std::string> entries, std::string_view name);
  // kNoLimit for the rest of a stage without a capacity.
  uint64_t bytes(size_t share) const { return bytes_[share]; }

 private:
  std::vector<std::string> names_;
  std::vector<uint64_t> bytes_ = {kNoLimit};
};

// How much one share may still take while blocks are written and, now and then, counted: what was
// counted, what was kept since the count began and what is under way are never more than the limit
// together. Blocks that leave are noticed by the next count. Thread-safe.
class QuotaRoom {
 public:
  using Clock = std::chrono::steady_clock;

  // `patience`: how long after that somebody waits for the first count.
  explicit QuotaRoom(uint64_t limit, Clock::duration patience = std::chrono::seconds(5))
      : limit_(limit), patient_until_(Clock::now() + patience) {}

  // Reserves the bytes, to be settled. False when they do not fit, or when nothing was counted by
  // the deadline or the end of patience: who waits keeps a thread from other work.
  bool take(uint64_t bytes, Clock::time_point deadline);
  // The write has ended; `kept`: its bytes are there, or may be.
  void settle(uint64_t bytes, bool kept);
  void begin_count();
  void end_count(uint64_t used);
  // Nobody waits for a count any more.
  void close();

 private:
  const uint64_t limit_;
  const Clock::time_point patient_until_;
  std::mutex mutex_;
  std::condition_variable counted_changed_;
  bool counted_ = false;
  bool closed_ = false;
  uint64_t used_ = 0;
  uint64_t kept_ = 0;         // since the last count that has ended began
  uint64_t kept_before_ = 0;  // of those: before the count that is under way
  uint64_t under_way_ = 0;
};

// Room for one write, given back unless the write was kept.
class QuotaClaim {
 public:
  QuotaClaim(QuotaRoom* room, uint64_t bytes, QuotaRoom::Clock::time_point deadline)
      : room_(room), bytes_(bytes), granted_(room->take(bytes, deadline)) {}
  ~QuotaClaim() {
    if (granted_) room_->settle(bytes_, kept_);
  }
  QuotaClaim(const QuotaClaim&) = delete;
  QuotaClaim& operator=(const QuotaClaim&) = delete;

  bool granted() const { return granted_; }
  void keep() { kept_ = true; }

 private:
  QuotaRoom* const room_;
  const uint64_t bytes_;
  const bool granted_;
  bool kept_ = false;
};

}  // namespace ucm
