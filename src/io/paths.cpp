// SPDX-License-Identifier: Apache-2.0
#include "io/paths.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "io/faults.h"
#include "io/files.h"
#include "io/recorder.h"

namespace ucm::io {
namespace {

// `call_through` for a call that changes names, which the recording is `told` of.
template <typename Call, typename Told>
int change_names(Operation operation, const std::string& path, Call call, Told told) {
  int error = 0;
  do {
    const FaultEffect effect = fault(operation, path);
    error = effect.error;
    if (error != 0) continue;
    std::unique_lock<std::mutex> order;
    if (effect.recorded) order = recorder::name_change();
    if (call() != 0) error = errno;
    if (error == 0 && effect.recorded) told();
  } while (error == EINTR);
  return error;
}

Status folder_error(int error, const std::string& path) {
  switch (error) {
    case EACCES:
    case EPERM:
      return errno_status(error,
                          "make folder %s: give this user write access or choose another path",
                          path.c_str());
    case EROFS:
      return errno_status(error, "make folder %s: the file system is mounted read-only",
                          path.c_str());
    default:
      return errno_status(error, "make folder %s", path.c_str());
  }
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

Status make_one_folder(const std::string& path, unsigned mode, bool durable) {
  const int error = change_names(
      Operation::mkdir, path, [&] { return ::mkdir(path.c_str(), mode); },
      [&] { recorder::made(path); });
  if (error == 0) return durable ? sync_folder(parent_of(path)) : Status();
  struct stat info;
  const bool there = ::stat(path.c_str(), &info) == 0;
  if (there && S_ISDIR(info.st_mode)) return {};
  if (there || error == ENOTDIR) {
    return make_status(Code::invalid_argument,
                       "%s: a file stands where a folder is wanted; move it or choose another path",
                       path.c_str());
  }
  return folder_error(error, path);
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

}  // namespace

std::string join(std::string_view folder, std::string_view name) {
  std::string path(folder);
  if (path.empty() || path.back() != '/') path += '/';
  return path.append(name);
}

Result<PathInfo> path_info(const std::string& path) {
  struct stat found;
  const int error =
      call_through(Operation::stat, path, [&] { return ::stat(path.c_str(), &found); });
  if (error != 0) return errno_status(error, "stat %s", path.c_str());
  PathInfo info;
  info.bytes = static_cast<uint64_t>(found.st_size);
  info.allocated_bytes = static_cast<uint64_t>(found.st_blocks) * 512;
  info.modified_ns = found.st_mtim.tv_sec * int64_t{1000000000} + found.st_mtim.tv_nsec;
  info.inode = found.st_ino;
  info.device = found.st_dev;
  info.links = found.st_nlink;
  info.mode = found.st_mode & 07777;
  info.is_folder = S_ISDIR(found.st_mode);
  info.is_file = S_ISREG(found.st_mode);
  return info;
}

bool exists(const std::string& path) { return path_info(path).ok(); }

Result<SpaceInfo> space_of(const std::string& path) {
  struct statvfs found;
  const int error =
      call_through(Operation::stat, path, [&] { return ::statvfs(path.c_str(), &found); });
  if (error != 0) return errno_status(error, "free space of %s", path.c_str());
  return SpaceInfo{found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize};
}

Status make_folders(const std::string& path, unsigned mode, bool durable) {
  if (path.empty()) return make_status(Code::invalid_argument, "an empty path names no folder");
  for (size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    struct stat info;
    const int error =
        call_through(Operation::stat, parent, [&] { return ::stat(parent.c_str(), &info); });
    if (error == 0 && S_ISDIR(info.st_mode)) continue;
    UCM_TRY(make_one_folder(parent, mode, durable));
  }
  return make_one_folder(path, mode, durable);
}

Result<std::vector<FolderEntry>> list_folder(const std::string& path) {
  std::unique_ptr<DIR, CloseFolder> folder;
  const int error = call_through(Operation::list, path, [&] {
    folder.reset(::opendir(path.c_str()));
    return folder ? 0 : -1;
  });
  if (error != 0) return errno_status(error, "list %s", path.c_str());
  std::vector<FolderEntry> entries;
  errno = 0;
  while (const dirent* entry = ::readdir(folder.get())) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    bool is_folder = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN) {
      struct stat info;
      is_folder = ::lstat(join(path, name).c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    }
    entries.push_back({std::move(name), is_folder});
    errno = 0;
  }
  if (errno != 0) return errno_status(errno, "list %s", path.c_str());
  return entries;
}

Status remove_tree(const std::string& path) {
  auto listed = list_folder(path);
  if (!listed.ok()) {
    return listed.status().code() == Code::not_found ? Status() : listed.status();
  }
  for (const FolderEntry& entry : listed.value()) {
    const std::string child = join(path, entry.name);
    const Status status = entry.is_folder ? remove_tree(child) : unlink_file(child);
    if (!status.ok() && status.code() != Code::not_found) return status;
  }
  const int error = change_names(
      Operation::unlink, path, [&] { return ::rmdir(path.c_str()); },
      [&] { recorder::removed(path); });
  if (error != 0 && error != ENOENT) return errno_status(error, "remove folder %s", path.c_str());
  return {};
}

Status rename_path(const std::string& from, const std::string& to) {
  const int error = change_names(
      Operation::rename, from, [&] { return std::rename(from.c_str(), to.c_str()); },
      [&] { recorder::renamed(from, to); });
  if (error == 0) return {};
  return errno_status(error, "rename %s to %s", from.c_str(), to.c_str());
}

Result<bool> link_file(const std::string& from, const std::string& to) {
  const int error = change_names(
      Operation::link, from, [&] { return ::link(from.c_str(), to.c_str()); },
      [&] { recorder::linked(to); });
  if (error == 0) return true;
  if (error == EEXIST) return false;
  return errno_status(error, "link %s to %s", from.c_str(), to.c_str());
}

Status unlink_file(const std::string& path) {
  const int error = change_names(
      Operation::unlink, path, [&] { return ::unlink(path.c_str()); },
      [&] { recorder::removed(path); });
  if (error == 0) return {};
  return errno_status(error, "unlink %s", path.c_str());
}

Status set_mode(const std::string& path, unsigned mode) {
  const int error =
      call_through(Operation::stat, path, [&] { return ::chmod(path.c_str(), mode); });
  if (error == 0) return {};
  return errno_status(error, "change the mode of %s", path.c_str());
}

Status sync_folder(const std::string& path) {
  UCM_TRY_ASSIGN(const File folder, File::open(path, O_RDONLY | O_DIRECTORY));
  return sync_all(folder);
}

Result<std::string> read_small_file(const std::string& path, size_t limit) {
  UCM_TRY_ASSIGN(const File file, File::open(path, O_RDONLY));
  UCM_TRY_ASSIGN(const uint64_t bytes, size_of(file));
  if (bytes > limit) {
    return make_status(Code::corruption, "%s: %llu bytes where at most %zu are expected",
                       path.c_str(), static_cast<unsigned long long>(bytes), limit);
  }
  std::string text(bytes, '\0');
  UCM_TRY_ASSIGN(const size_t got, read_at(file, 0, text.data(), text.size()));
  text.resize(got);
  return text;
}

Status write_small_file(const std::string& path, std::string_view text, unsigned mode) {
  const std::string aside = path + ".t-" + std::to_string(::getpid());
  {
    UCM_TRY_ASSIGN(const File file, File::open(aside, O_WRONLY | O_CREAT | O_TRUNC, mode));
    Status status = write_at(file, 0, text.data(), text.size());
    if (status.ok()) status = sync_data(file);
    if (!status.ok()) {
      static_cast<void>(unlink_file(aside));
      return status;
    }
  }
  return rename_path(aside, path);
}

}  // namespace ucm::io
