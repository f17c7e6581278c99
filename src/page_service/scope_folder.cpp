// SPDX-License-Identifier: Apache-2.0
#include "page_service/scope_folder.h"

#include "io/paths.h"
#include "ucm/log.h"

namespace ucm::page_service {
namespace {

constexpr const char* kLockName = "LOCK";
constexpr const char* kScopeName = "SCOPE";
constexpr const char* kPagesName = "pages";

// Why what is stored can not be used; empty when it can.
Result<std::string> objection(const PageServiceOptions& options, const std::string& folder) {
  if (!io::exists(io::join(folder, kPagesName))) return std::string();
  if (!options.keep) return std::string("its content is not valid beyond one run");
  const auto text = io::read_small_file(io::join(folder, kScopeName));
  if (text.ok()) {
    if (text.value() == options.scope) return std::string();
    return "it belongs to another server (" + text.value() + ", now " + options.scope + ")";
  }
  const Code code = text.status().code();
  if (code == Code::not_found || code == Code::corruption) {
    return std::string("nothing says whose it is");
  }
  return text.status();
}

}  // namespace

Result<ScopeFolder> ScopeFolder::open(const PageServiceOptions& options) {
  ScopeFolder out;
  out.pages = io::join(options.path, kPagesName);
  const auto info = io::path_info(options.path);
  if (info.ok() && !info.value().is_folder) {
    return make_status(Code::invalid_argument,
                       "%s is a file; a folder of that name is needed: remove it or choose another "
                       "path",
                       options.path.c_str());
  }
  if (options.read_only) {
    UCM_TRY_ASSIGN(const std::string text, io::read_small_file(io::join(options.path, kScopeName)));
    if (text == options.scope) return out;
    return make_status(Code::not_found, "%s holds pages of another server (%s, not %s)",
                       options.path.c_str(), text.c_str(), options.scope.c_str());
  }
  UCM_TRY(io::make_folders(options.path));
  UCM_TRY_ASSIGN(out.lock, io::LockFile::acquire(io::join(options.path, kLockName)));
  UCM_TRY_ASSIGN(const std::string reason, objection(options, options.path));
  if (!reason.empty()) {
    log(LogLevel::warning, "light_mem: %s starts empty: %s", options.path.c_str(), reason.c_str());
    UCM_TRY(io::remove_tree(out.pages));
  }
  // Only now: a crash before this line drops the rest at the next start.
  UCM_TRY(io::write_small_file(io::join(options.path, kScopeName), options.scope));
  return out;
}

Status check_space(const std::string& folder, uint64_t capacity) {
  uint64_t own = 0;
  const auto entries = io::list_folder(folder);
  if (entries.ok()) {
    for (const io::FolderEntry& entry : entries.value()) {
      const auto info = io::path_info(io::join(folder, entry.name));
      if (info.ok() && info.value().is_file) own += info.value().allocated_bytes;
    }
  }
  UCM_TRY(io::make_folders(folder));
  UCM_TRY_ASSIGN(const io::SpaceInfo space, io::space_of(folder));
  if (space.free_bytes + own >= capacity) return {};
  return make_status(Code::no_space,
                     "%s: storage_size is %llu bytes, but only %llu are free (%llu of them held by "
                     "this cache already); lower it or free some space",
                     folder.c_str(), static_cast<unsigned long long>(capacity),
                     static_cast<unsigned long long>(space.free_bytes + own),
                     static_cast<unsigned long long>(own));
}

}  // namespace ucm::page_service
