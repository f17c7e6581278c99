// SPDX-License-Identifier: Apache-2.0
#include "stages/disk/disk_inspect.h"

#include <algorithm>

#include "io/paths.h"
#include "stages/disk/slot_folders.h"
#include "ucm/pages.h"

namespace ucm::disk {
namespace {

// Every page store in and below `path`: the folder itself, slot folders, slot folders of ranks.
std::vector<std::string> page_stores(const std::string& path) {
  std::vector<std::string> stores;
  if (io::exists(io::join(path, "FORMAT.json")) && io::exists(io::join(path, "index"))) {
    return {path};
  }
  std::vector<std::string> backends = {path};
  const auto entries = io::list_folder(path);
  if (entries.ok()) {
    for (const io::FolderEntry& entry : entries.value()) {
      if (entry.is_folder && entry.name.starts_with("rank-")) {
        backends.push_back(io::join(path, entry.name));
      }
    }
  }
  std::sort(backends.begin(), backends.end());
  for (const std::string& backend : backends) {
    const auto folders = list_slot_folders(backend);
    if (!folders.ok()) continue;
    for (const SlotFolder& folder : folders.value()) stores.push_back(folder.path);
  }
  return stores;
}

}  // namespace

Status inspect_disk(const std::string& path, bool verify, const BlockVisitor& visit) {
  const std::vector<std::string> stores = page_stores(path);
  if (stores.empty()) {
    return make_status(Code::not_found, "%s holds no page store", path.c_str());
  }
  Status first;
  bool stopped = false;
  const BlockVisitor watched = [&](const BlockRecord& record) {
    stopped = !visit(record);
    return !stopped;
  };
  for (const std::string& store : stores) {
    if (stopped) break;
    Status status = walk_pages(store, verify, watched);
    if (!status.ok() && first.ok()) first = std::move(status);
  }
  return first;
}

}  // namespace ucm::disk
