// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_walk.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "stages/posix/posix_root.h"

namespace ucm::posix {
namespace {

bool by_name(const io::FolderEntry& a, const io::FolderEntry& b) { return a.name < b.name; }

bool is_block_folder(const std::string& name) {
  return name.size() == 2 && std::all_of(name.begin(), name.end(), [](char c) {
           return std::isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
         });
}

bool is_temporary(const std::string& name) {
  return name.compare(0, std::char_traits<char>::length(kTemporaryPrefix), kTemporaryPrefix) == 0;
}

bool visit(const std::string& folder, const std::string& folder_name, const io::FolderEntry& entry,
           const WalkHooks& hooks) {
  if (entry.is_folder) return true;
  const std::string path = io::join(folder, entry.name);
  if (is_temporary(entry.name)) return !hooks.on_temporary || hooks.on_temporary(path);
  BlockKey key;
  // Only the exact spelling of a block's own name, in its own folder.
  if (!BlockKey::parse(entry.name, &key) || key.hex() != entry.name ||
      entry.name.compare(0, 2, folder_name) != 0) {
    return true;
  }
  return !hooks.on_block || hooks.on_block(key, path);
}

}  // namespace

Result<bool> walk_root(const std::string& root, const WalkHooks& hooks) {
  UCM_TRY_ASSIGN(std::vector<io::FolderEntry> folders, io::list_folder(root));
  std::sort(folders.begin(), folders.end(), by_name);
  for (const io::FolderEntry& folder : folders) {
    if (!folder.is_folder) {
      if (is_temporary(folder.name) && hooks.on_temporary &&
          !hooks.on_temporary(io::join(root, folder.name))) {
        return false;
      }
      continue;
    }
    if (!is_block_folder(folder.name)) continue;
    const std::string path = io::join(root, folder.name);
    auto listed = io::list_folder(path);
    if (!listed.ok()) {
      if (listed.status().code() == Code::not_found) continue;
      return listed.status();
    }
    std::vector<io::FolderEntry> entries = std::move(listed).value();
    std::sort(entries.begin(), entries.end(), by_name);
    for (const io::FolderEntry& entry : entries) {
      if (!visit(path, folder.name, entry, hooks)) return false;
    }
  }
  return true;
}

}  // namespace ucm::posix
