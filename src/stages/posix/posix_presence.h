// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

#include "ucm/key.h"

namespace ucm::posix {

// What this process knows about keys without asking the file system: answers younger than the
// time to live, and blocks of another layout, which stay refused for a minute so that a lookup
// does not promise what a load just declined. Bounded; a newer key may displace an older one.
// Thread-safe.
class PresenceTable {
 public:
  enum class Answer : uint8_t { unknown, present, absent };

  explicit PresenceTable(double ttl_s);

  Answer find(const BlockKey& key) const;
  void note(const BlockKey& key, bool present);
  // The block is there, but it is written for another layout.
  void refuse(const BlockKey& key);
  void forget(const BlockKey& key);

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    BlockKey key;
    Clock::time_point expires;  // the epoch for an empty place
    bool present = false;
  };
  void put(const BlockKey& key, bool present, Clock::duration life);
  size_t place(const BlockKey& key) const { return mix(key) & (entries_.size() - 1); }

  const Clock::duration ttl_;
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
};

}  // namespace ucm::posix
