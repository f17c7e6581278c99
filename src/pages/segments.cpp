// SPDX-License-Identifier: Apache-2.0
#include "pages/segments.h"

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "io/direct.h"
#include "io/paths.h"

namespace ucm::pages {
namespace {

// The number of a segment file name, or -1 for any other name.
int64_t segment_number(const std::string& name) {
  const std::string_view prefix = kSegmentPrefix;
  if (!name.starts_with(prefix) || name.size() < prefix.size() + 5 || name.size() > 20) return -1;
  for (size_t i = prefix.size(); i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return -1;
  }
  return std::atoll(name.c_str() + prefix.size());
}

}  // namespace

Segments::Segments(std::string path, const StoreFormat& format, bool direct, bool writable,
                   unsigned mode)
    : path_(std::move(path)), format_(format), direct_(direct), writable_(writable), mode_(mode) {
  const uint64_t count =
      (format_.capacity_slots + format_.segment_slots - 1) / format_.segment_slots;
  files_.resize(count);
  there_.resize(count, 0);
}

// The last segment is shorter when the capacity is no multiple of the segments' size.
uint64_t Segments::full_slots(uint64_t segment) const {
  return std::min(format_.segment_slots, format_.capacity_slots - segment * format_.segment_slots);
}

Status Segments::scan() {
  UCM_TRY_ASSIGN(const auto entries, io::list_folder(path_));
  for (const io::FolderEntry& entry : entries) {
    const int64_t number = segment_number(entry.name);
    if (number < 0) continue;
    const std::string file = io::join(path_, entry.name);
    if (static_cast<uint64_t>(number) >= there_.size()) {
      if (writable_) UCM_TRY(io::unlink_file(file));
      continue;
    }
    UCM_TRY_ASSIGN(const io::PathInfo info, io::path_info(file));
    const auto segment = static_cast<uint64_t>(number);
    const uint64_t full = full_slots(segment);
    if (writable_ && info.is_file && info.bytes > full * format_.slot_bytes) {
      UCM_TRY_ASSIGN(const io::SharedFile open, open_segment(segment));
      UCM_TRY(io::resize(*open, full * format_.slot_bytes));
    }
    const std::lock_guard lock(mutex_);
    there_[segment] = info.is_file ? std::min(info.bytes / format_.slot_bytes, full) : 0;
  }
  return {};
}

std::vector<uint64_t> Segments::slots_there() const {
  const std::lock_guard lock(mutex_);
  return there_;
}

std::string Segments::file_name(uint32_t slot) const {
  return format_.segment_name(segment_of(slot));
}

bool Segments::direct() const {
  const std::lock_guard lock(mutex_);
  return direct_ && std::all_of(files_.begin(), files_.end(),
                                [](const io::SharedFile& file) { return !file || file->direct(); });
}

void Segments::forget_cached(const Place& place, uint64_t bytes) const {
  if (direct_ && !place.file->direct()) io::drop_cache(*place.file, place.offset, bytes);
}

Result<io::SharedFile> Segments::open_segment(uint64_t segment) {
  if (segment >= files_.size()) {
    return make_status(Code::corruption, "%s: there is no segment %llu", path_.c_str(),
                       static_cast<unsigned long long>(segment));
  }
  const std::lock_guard lock(mutex_);
  if (!files_[segment]) {
    const std::string path = io::join(path_, format_.segment_name(segment));
    const int flags = writable_ ? O_RDWR | O_CREAT : O_RDONLY;
    UCM_TRY_ASSIGN(io::File file, io::open_direct(path, flags, mode_, direct_));
    files_[segment] = std::make_shared<const io::File>(std::move(file));
  }
  return files_[segment];
}

Result<Place> Segments::locate(uint32_t slot) {
  UCM_TRY_ASSIGN(io::SharedFile file, open_segment(segment_of(slot)));
  return Place{std::move(file), slot % format_.segment_slots * format_.slot_bytes};
}

Result<Segments::Range> Segments::grow(uint64_t most) {
  uint64_t segment = 0;
  uint64_t there = 0;
  {
    const std::lock_guard lock(mutex_);
    while (segment < there_.size() && there_[segment] >= full_slots(segment)) ++segment;
    if (segment == there_.size()) return Range{};
    there = there_[segment];
  }
  UCM_TRY_ASSIGN(const io::SharedFile file, open_segment(segment));
  uint64_t wanted = std::min(full_slots(segment) - there, std::max<uint64_t>(most, 1));
  Status status;
  // On a nearly full disk a smaller piece may still fit.
  for (; wanted > 0; wanted /= 4) {
    const uint64_t offset = there * format_.slot_bytes;
    // A damaged segment may have an odd length; the reservation covers that as well.
    status = io::allocate(*file, offset, wanted * format_.slot_bytes);
    if (status.ok() || status.code() != Code::no_space) break;
  }
  if (!status.ok()) return status;
  const std::lock_guard lock(mutex_);
  there_[segment] = there + wanted;
  return Range{static_cast<uint32_t>(segment * format_.segment_slots + there),
               static_cast<uint32_t>(wanted)};
}

Status Segments::sync(const std::set<uint64_t>& segments) {
  for (const uint64_t segment : segments) {
    UCM_TRY_ASSIGN(const io::SharedFile file, open_segment(segment));
    UCM_TRY(io::sync_data(*file));
  }
  return {};
}

}  // namespace ucm::pages
