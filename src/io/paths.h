// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ucm/status.h"

// What happens to names in the file system: folders, renames, links, sizes. Thread-safe.
namespace ucm::io {

struct PathInfo {
  uint64_t bytes = 0;            // apparent size
  uint64_t allocated_bytes = 0;  // what it takes on the disk
  int64_t modified_ns = 0;       // Unix time
  uint64_t inode = 0;
  uint64_t device = 0;
  uint64_t links = 1;  // names of the file
  unsigned mode = 0;
  bool is_folder = false;
  bool is_file = false;
};

struct SpaceInfo {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // for this user
};

struct FolderEntry {
  std::string name;
  bool is_folder = false;
};

// "a/b" from "a" and "b".
std::string join(std::string_view folder, std::string_view name);

// not_found when there is nothing of that name.
Result<PathInfo> path_info(const std::string& path);
bool exists(const std::string& path);
Result<SpaceInfo> space_of(const std::string& path);

// Makes the folder and its missing parents. invalid_argument when a file stands in the way; the
// text of other failures says what the user can change. `durable`: what was made survives a power
// loss.
Status make_folders(const std::string& path, unsigned mode = 0700, bool durable = false);
// Names in the folder without "." and "..", unsorted.
Result<std::vector<FolderEntry>> list_folder(const std::string& path);
// The folder and everything in it; an absent folder is no error.
Status remove_tree(const std::string& path);

Status rename_path(const std::string& from, const std::string& to);
// A second name for a file; false when `to` exists already.
Result<bool> link_file(const std::string& from, const std::string& to);
Status unlink_file(const std::string& path);
Status set_mode(const std::string& path, unsigned mode);
// Makes the names in a folder survive a power loss.
Status sync_folder(const std::string& path);

// Whole small files: corruption when larger than `limit`. Writing is atomic: aside, sync, rename.
Result<std::string> read_small_file(const std::string& path, size_t limit = 1 << 20);
Status write_small_file(const std::string& path, std::string_view text, unsigned mode = 0600);

}  // namespace ucm::io
