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
  io::FaultEffect effect;
  do {
    effect = io::fault(io::Operation::rename, from);
  } while (effect.error == EINTR);
  if (effect.error != 0) return effect.error;
  std::unique_lock<std::mutex> order;
  if (effect.recorded) order = io::recorder::name_change();
  int result = 0;
  do {
    result = ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return errno;
  if (effect.recorded) io::recorder::renamed(from, to);
  return 0;
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

}  // namespace

int64_t unix_now_ns() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

Result<io::PathInfo> file_info(const io::File& file) {
  const io::FaultEffect effect = io::fault(io::Operation::stat, file.path());
  struct stat found;
  if (effect.error != 0 || ::fstat(file.fd(), &found) != 0) {
    return errno_status(effect.error != 0 ? effect.error : errno, "stat %s", file.path().c_str());
  }
  io::PathInfo info;
  info.bytes = static_cast<uint64_t>(found.st_size);
  info.allocated_bytes = static_cast<uint64_t>(found.st_blocks) * 512;
  info.modified_ns = found.st_mtim.tv_sec * int64_t{1000000000} + found.st_mtim.tv_nsec;
  info.inode = found.st_ino;
  info.device = found.st_dev;
  info.mode = found.st_mode & 07777;
  info.is_folder = S_ISDIR(found.st_mode);
  info.is_file = S_ISREG(found.st_mode);
  return info;
}

void set_modified(const io::File& file, int64_t unix_ns) {
  const timespec modified = {unix_ns / 1000000000, unix_ns % 1000000000};
  const timespec times[2] = {{0, UTIME_OMIT}, modified};
  if (io::fault(io::Operation::attribute, file.path()).error != 0) return;
  if (::futimens(file.fd(), times) != 0) set_modified_now(file);
}

void set_modified_now(const io::File& file) {
  if (io::fault(io::Operation::attribute, file.path()).error != 0) return;
  ::futimens(file.fd(), nullptr);
}

Status set_mode(const std::string& path, unsigned mode) {
  const io::FaultEffect effect = io::fault(io::Operation::attribute, path);
  if (effect.error == 0 && ::chmod(path.c_str(), mode) == 0) return {};
  return errno_status(effect.error != 0 ? effect.error : errno, "set permissions %o of %s", mode, path.c_str());
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

Status check_writable(const std::string& folder) {
  const io::FaultEffect effect = io::fault(io::Operation::stat, folder);
  if (effect.error == 0 && ::access(folder.c_str(), W_OK | X_OK) == 0) return {};
  return errno_status(effect.error != 0 ? effect.error : errno,
                      "posix: %s can not be written by this user; change its owner or permissions, "
                      "choose another directory, or open the store read-only",
                      folder.c_str());
}

int device_error(const std::string& path) {
  const io::FaultEffect effect = io::fault(io::Operation::stat, path);
  struct stat found;
  int error = effect.error;
  if (error == 0 && ::stat(path.c_str(), &found) != 0) error = errno;
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
  struct statfs info;
  if (io::fault(io::Operation::stat, path).error != 0) return false;
  if (::statfs(path.c_str(), &info) != 0) return false;
  switch (static_cast<uint64_t>(info.f_type) & 0xFFFFFFFFu) {
    case 0x6969:      // NFS
    case 0x517B:      // SMB
    case 0xFE534D42:  // SMB2
    case 0xFF534D42:  // CIFS
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
