// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdio>
#include <ctime>

#include "io/faults.h"
#include "io/recorder.h"

namespace ucm::posix {
namespace {

#ifndef RENAME_NOREPLACE
constexpr unsigned RENAME_NOREPLACE = 1;
#endif

int rename_no_replace(const std::string& from, const std::string& to) {
  return io::call_through(io::Operation::rename, from, [&] {
    const bool recorded = io::recorder::running();
    std::unique_lock<std::mutex> order;
    if (recorded) order = io::recorder::name_change();
    const int result = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
    if (result == 0 && recorded) io::recorder::renamed(from, to);
    return result;
  });
}

bool is_inode(const std::string& path, uint64_t inode) {
  const auto info = io::path_info(path);
  return info.ok() && info.value().inode == inode;
}

// For file systems without hard links: two writers at once replace each other's equal bytes.
Result<bool> publish_by_rename(const std::string& from, const std::string& to, uint64_t inode) {
  if (io::exists(to)) return false;
  const Status status = io::rename_path(from, to);
  if (status.ok() || is_inode(to, inode)) return true;
  return status;
}

// 0 when the path can not be asked for.
uint64_t file_system_type(const std::string& path) {
  struct statfs info;
  const int error =
      io::call_through(io::Operation::stat, path, [&] { return ::statfs(path.c_str(), &info); });
  return error == 0 ? static_cast<uint64_t>(info.f_type) & 0xFFFFFFFFu : 0;
}

}  // namespace

int64_t unix_now_ns() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

Result<io::PathInfo> file_info(const io::File& file) {
  struct stat found;
  const int error = io::call_through(io::Operation::stat, file.path(),
                                     [&] { return ::fstat(file.fd(), &found); });
  if (error != 0) return errno_status(error, "stat %s", file.path().c_str());
  io::PathInfo info;
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

void set_modified(const io::File& file, int64_t unix_ns) {
  const timespec modified = {unix_ns / 1000000000, unix_ns % 1000000000};
  const timespec times[2] = {{0, UTIME_OMIT}, modified};
  const int error = io::call_through(io::Operation::attribute, file.path(),
                                     [&] { return ::futimens(file.fd(), times); });
  if (error != 0) set_modified_now(file);
}

void set_modified_now(const io::File& file) {
  static_cast<void>(io::call_through(io::Operation::attribute, file.path(),
                                     [&] { return ::futimens(file.fd(), nullptr); }));
}

Status set_mode(const std::string& path, unsigned mode) {
  const int error =
      io::call_through(io::Operation::attribute, path, [&] { return ::chmod(path.c_str(), mode); });
  if (error == 0) return {};
  return errno_status(error, "set permissions %o of %s", mode, path.c_str());
}

Result<bool> publish_name(const std::string& from, const std::string& to, uint64_t inode) {
  const int error = rename_no_replace(from, to);
  if (error == 0) return true;
  if (error == EEXIST) return is_inode(to, inode);
  if (error != EINVAL && error != ENOSYS && error != EOPNOTSUPP) {
    if (is_inode(to, inode)) return true;
    return errno_status(error, "rename %s to %s", from.c_str(), to.c_str());
  }
  // Network file systems know no rename that spares an existing file; a link does the same.
  const auto linked = io::link_file(from, to);
  if (!linked.ok() && !is_inode(to, inode)) return publish_by_rename(from, to, inode);
  if (linked.ok() && !linked.value() && !is_inode(to, inode)) return false;
  // A name left over is reaped by the collector.
  (void)io::unlink_file(from);
  return true;
}

Result<bool> add_name(const std::string& from, const std::string& to, uint64_t inode) {
  auto linked = io::link_file(from, to);
  if (linked.ok() && linked.value()) return linked;
  // A link that a network file system carried out twice is success.
  if (is_inode(to, inode)) return true;
  return linked;
}

Status check_writable(const std::string& folder) {
  const int error = io::call_through(io::Operation::stat, folder,
                                     [&] { return ::access(folder.c_str(), W_OK | X_OK); });
  if (error == 0) return {};
  return errno_status(error,
                      "posix: %s can not be written by this user; change its owner or permissions, "
                      "choose another directory, or open the store read-only",
                      folder.c_str());
}

int device_error(const std::string& path) {
  struct stat found;
  const int error =
      io::call_through(io::Operation::stat, path, [&] { return ::stat(path.c_str(), &found); });
  switch (error) {
    case EIO:
    case ESTALE:
    case ETIMEDOUT:
    case ENXIO:
    case ENODEV:
    case ENOTCONN:
    case EHOSTDOWN:
      return error;
    default:
      return 0;
  }
}

bool on_network(const std::string& path) {
  switch (file_system_type(path)) {
    case 0x6969:      // NFS
    case 0x517B:      // SMB
    case 0xFE534D42:  // SMB2
    case 0xFF534D42:  // CIFS
      return true;
    default:
      return false;
  }
}

bool on_local_disk(const std::string& path) {
  switch (file_system_type(path)) {
    case 0xEF53:      // ext2 to ext4
    case 0x58465342:  // XFS
    case 0x9123683E:  // Btrfs
    case 0xF2F52010:  // F2FS
    case 0x01021994:  // tmpfs
      return true;
    default:
      return false;
  }
}

std::string host_name() {
  char name[64] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "host";
  std::string out;
  for (const char* c = name; *c != '\0'; ++c) {
    out.push_back(std::isalnum(static_cast<unsigned char>(*c)) ? *c : '_');
  }
  return out.empty() ? "host" : out;
}

}  // namespace ucm::posix
