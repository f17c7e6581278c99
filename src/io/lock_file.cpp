// SPDX-License-Identifier: Apache-2.0
#include "io/lock_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "io/faults.h"
#include "io/paths.h"

namespace ucm::io {
namespace {

struct flock whole_file() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

std::string holder_of(const std::string& path) {
  const auto text = read_small_file(path, 64);
  if (!text.ok()) return "an unknown process";
  const long pid = std::strtol(text.value().c_str(), nullptr, 10);
  return pid > 0 ? "process " + std::to_string(pid) : "an unknown process";
}

}  // namespace

Result<LockFile> LockFile::acquire(const std::string& path, unsigned mode) {
  UCM_TRY_ASSIGN(File file, File::open(path, O_RDWR | O_CREAT, mode));
  struct flock lock = whole_file();
  const int error =
      call_through(Operation::lock, path, [&] { return ::fcntl(file.fd(), F_OFD_SETLK, &lock); });
  if (error != 0) {
    if (error == EAGAIN || error == EACCES) {
      return make_status(Code::unavailable,
                         "%s is held by %s: one process writes a store at a time; stop it, open "
                         "read-only or choose another path",
                         path.c_str(), holder_of(path).c_str());
    }
    return errno_status(error, "lock %s", path.c_str());
  }
  const std::string owner = std::to_string(::getpid()) + "\n";
  UCM_TRY(resize(file, 0));
  // The pid only decorates messages: a full disk must not keep a store from being read.
  const Status written = write_at(file, 0, owner.data(), owner.size());
  if (!written.ok() && written.code() != Code::no_space) return written;
  return LockFile(std::move(file));
}

bool is_locked(const std::string& path) {
  auto file = File::open(path, O_RDWR);
  if (!file.ok()) return false;
  struct flock lock = whole_file();
  const int error = call_through(Operation::lock, path,
                                 [&] { return ::fcntl(file.value().fd(), F_OFD_GETLK, &lock); });
  return error == 0 && lock.l_type != F_UNLCK;
}

}  // namespace ucm::io
