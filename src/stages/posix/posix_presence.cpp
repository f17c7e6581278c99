// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_presence.h"

namespace ucm::posix {
namespace {

// Powers of two. Without a time to live only refusals are kept, which are rare.
constexpr size_t kPlaces = 65536;
constexpr size_t kRefusalPlaces = 1024;
constexpr std::chrono::seconds kRefusalLife{60};

}  // namespace

PresenceTable::PresenceTable(double ttl_s)
    : ttl_(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(ttl_s))),
      entries_(ttl_s > 0 ? kPlaces : kRefusalPlaces) {}

PresenceTable::Answer PresenceTable::find(const BlockKey& key) const {
  const std::lock_guard lock(mutex_);
  const Entry& entry = entries_[place(key)];
  if (entry.expires == Clock::time_point{} || !(entry.key == key) ||
      entry.expires <= Clock::now()) {
    return Answer::unknown;
  }
  return entry.present ? Answer::present : Answer::absent;
}

void PresenceTable::note(const BlockKey& key, bool present) {
  if (ttl_ == Clock::duration::zero()) {
    // Nothing is remembered, but a refusal may have been overtaken.
    if (present) forget(key);
    return;
  }
  put(key, present, ttl_);
}

void PresenceTable::refuse(const BlockKey& key) { put(key, false, kRefusalLife); }

void PresenceTable::forget(const BlockKey& key) {
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[place(key)];
  if (entry.key == key) entry.expires = {};
}

void PresenceTable::put(const BlockKey& key, bool present, Clock::duration life) {
  const Clock::time_point expires = Clock::now() + life;
  const std::lock_guard lock(mutex_);
  entries_[place(key)] = {key, expires, present};
}

}  // namespace ucm::posix
