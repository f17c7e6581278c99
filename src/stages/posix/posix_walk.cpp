// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_walk.h"

#include <algorithm>
#include <cctype>

#include "stages/posix/posix_root.h"
#include "store/quotas.h"

namespace ucm::posix {
namespace {

bool by_name(const io::FolderEntry& a, const io::FolderEntry& b) { return a.name < b.name; }

bool is_block_folder(const std::string& name) {
  return name.size() == 2 && std::all_of(name.begin(), name.end(), [](char c) {
           return std::isdigit(static_cast<unsigned char>(c)) || (c >= 'a' && c <= 'f');
         });
}

bool is_temporary(const std::string& name) { return name.starts_with(kTemporaryPrefix); }

// Only the exact spelling of a block's own name, in its own folder.
bool parse_name(const std::string& name, const std::string& folder_name, BlockKey* key) {
  return BlockKey::parse(name, key) && key->hex() == name && name.starts_with(folder_name);
}

bool visit(const std::string& folder, const std::string& folder_name, const io::FolderEntry& entry,
           const WalkHooks& hooks) {
  if (entry.is_folder) return true;
  const std::string path = io::join(folder, entry.name);
  if (is_temporary(entry.name)) return !hooks.on_temporary || hooks.on_temporary(path);
  const bool pin = entry.name.starts_with(kPinPrefix);
  const size_t prefix = pin ? std::char_traits<char>::length(kPinPrefix) : 0;
  const auto& hook = pin ? hooks.on_pin : hooks.on_block;
  BlockKey key;
  if (!hook || !parse_name(entry.name.substr(prefix), folder_name, &key)) return true;
  return hook(key, path);
}

}  // namespace

Result<std::vector<std::string>> list_namespaces(const std::string& root) {
  UCM_TRY_ASSIGN(const std::vector<io::FolderEntry> entries, io::list_folder(root));
  std::vector<std::string> names = {""};
  for (const io::FolderEntry& entry : entries) {
    if (!entry.is_folder || !entry.name.starts_with(kNamespacePrefix)) continue;
    std::string name = entry.name.substr(std::char_traits<char>::length(kNamespacePrefix));
    if (check_namespace(name).ok()) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<bool> walk_folder(const std::string& base, const WalkHooks& hooks) {
  UCM_TRY_ASSIGN(std::vector<io::FolderEntry> folders, io::list_folder(base));
  std::sort(folders.begin(), folders.end(), by_name);
  for (const io::FolderEntry& folder : folders) {
    if (!folder.is_folder) {
      if (is_temporary(folder.name) && hooks.on_temporary &&
          !hooks.on_temporary(io::join(base, folder.name))) {
        return false;
      }
      continue;
    }
    if (!is_block_folder(folder.name)) continue;
    const std::string path = io::join(base, folder.name);
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
