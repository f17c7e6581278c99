// SPDX-License-Identifier: Apache-2.0
#include "stages/disk/slot_folders.h"

#include <algorithm>

#include "io/lock_file.h"
#include "io/paths.h"
#include "ucm/log.h"

namespace ucm::disk {
namespace {

// The names a page store uses; docs/formats.md.
constexpr const char* kFormat = "FORMAT.json";
constexpr const char* kLock = "LOCK";
constexpr const char* kIndex = "index";

// 0 for a name that is no plain decimal number.
uint64_t number_of(const std::string& name) {
  if (name.empty() || name.size() > 12 || name[0] == '0') return 0;
  uint64_t number = 0;
  for (const char c : name) {
    if (c < '0' || c > '9') return 0;
    number = number * 10 + static_cast<uint64_t>(c - '0');
  }
  return number;
}

uint64_t bytes_in(const std::string& folder) {
  uint64_t bytes = 0;
  const auto entries = io::list_folder(folder);
  if (!entries.ok()) return 0;
  for (const io::FolderEntry& entry : entries.value()) {
    const auto info = io::path_info(io::join(folder, entry.name));
    if (info.ok()) bytes += info.value().allocated_bytes;
  }
  return bytes;
}

// Removes the store unless somebody has it open; answers whether it is gone.
bool remove_unused(const SlotFolder& folder) {
  const auto lock = io::LockFile::acquire(io::join(folder.path, kLock));
  if (!lock.ok()) return false;
  const Status removed = io::remove_tree(folder.path);
  if (removed.ok()) {
    log(LogLevel::info, "disk: removed %s to make room for another block size",
        folder.path.c_str());
    return true;
  }
  log(LogLevel::warning, "disk: can not remove %s: %s", folder.path.c_str(),
      removed.message().c_str());
  return false;
}

}  // namespace

std::string slot_folder_path(const std::string& backend, uint64_t slot_bytes) {
  return io::join(backend, std::to_string(slot_bytes));
}

Result<std::vector<SlotFolder>> list_slot_folders(const std::string& backend) {
  std::vector<SlotFolder> folders;
  const auto entries = io::list_folder(backend);
  if (!entries.ok()) {
    return entries.status().code() == Code::not_found
               ? Result<std::vector<SlotFolder>>(std::move(folders))
               : entries.status();
  }
  for (const io::FolderEntry& entry : entries.value()) {
    SlotFolder folder;
    folder.slot_bytes = entry.is_folder ? number_of(entry.name) : 0;
    folder.path = io::join(backend, entry.name);
    // A number alone could be anybody's folder.
    if (folder.slot_bytes == 0 || !io::exists(io::join(folder.path, kFormat))) continue;
    folder.allocated_bytes = bytes_in(folder.path);
    const auto index = io::path_info(io::join(folder.path, kIndex));
    if (index.ok()) folder.modified_ns = index.value().modified_ns;
    folders.push_back(std::move(folder));
  }
  std::sort(folders.begin(), folders.end(),
            [](const SlotFolder& a, const SlotFolder& b) { return a.modified_ns < b.modified_ns; });
  return folders;
}

Result<uint64_t> make_room(const std::string& backend, uint64_t slot_bytes, uint64_t wanted,
                           uint64_t sharing) {
  UCM_TRY_ASSIGN(const std::vector<SlotFolder> folders, list_slot_folders(backend));
  uint64_t own = 0;
  uint64_t others = 0;
  for (const SlotFolder& folder : folders) {
    (folder.slot_bytes == slot_bytes ? own : others) += folder.allocated_bytes;
  }
  uint64_t capacity = wanted;
  if (capacity == 0) {
    UCM_TRY_ASSIGN(const io::SpaceInfo space, io::space_of(backend));
    // What is stored stays, however full others have made the disk.
    capacity = std::max((space.free_bytes / sharing + own + others) / 10 * 9, own);
  }
  const uint64_t share = std::max(capacity / 2, std::min(own, capacity));
  for (const SlotFolder& folder : folders) {
    if (others + share <= capacity) break;
    if (folder.slot_bytes == slot_bytes) continue;
    if (remove_unused(folder)) others -= folder.allocated_bytes;
  }
  const uint64_t left = capacity - std::min(capacity, others);
  if (left >= slot_bytes) return left;
  return make_status(
      Code::no_space,
      "%s: %llu of %llu bytes belong to stores of other block sizes that are in use; "
      "raise capacity_bytes, free some space or choose another path",
      backend.c_str(), static_cast<unsigned long long>(others),
      static_cast<unsigned long long>(capacity));
}

}  // namespace ucm::disk
