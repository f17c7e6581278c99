// SPDX-License-Identifier: Apache-2.0
#include "io/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <vector>

#include "io/faults.h"
#include "io/recorder.h"
#include "ucm/layout.h"

namespace ucm::io {
namespace {

// What a short call moves. A direct transfer must stay a multiple of the block size even then.
std::vector<iovec> first_half(std::span<const iovec> parts) {
  size_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  size_t left = total > kAlign ? std::max(total / 2 / kAlign * kAlign, kAlign) : total;
  std::vector<iovec> half;
  for (const iovec& part : parts) {
    half.push_back({part.iov_base, std::min(part.iov_len, left)});
    left -= half.back().iov_len;
    if (left == 0) break;
  }
  return half;
}

// One preadv or pwritev, disturbed by the fault layer. Answers what the call would.
ssize_t transfer_once(const File& file, bool write, std::span<const iovec> parts, uint64_t offset) {
  const FaultEffect effect = fault(write ? Operation::write : Operation::read, file.path());
  if (effect.error != 0) {
    errno = effect.error;
    return -1;
  }
  std::vector<iovec> cut;
  if (effect.cut) {
    cut = first_half(parts);
    parts = cut;
  }
  if (write && effect.recorded) recorder::writes(file.fd(), offset, parts);
  const int count = static_cast<int>(std::min<size_t>(parts.size(), IOV_MAX));
  const auto at = static_cast<off_t>(offset);
  return write ? ::pwritev(file.fd(), parts.data(), count, at)
               : ::preadv(file.fd(), parts.data(), count, at);
}

void advance(std::vector<iovec>* parts, size_t bytes) {
  size_t done = 0;
  while (done < parts->size() && bytes >= (*parts)[done].iov_len) {
    bytes -= (*parts)[done].iov_len;
    ++done;
  }
  parts->erase(parts->begin(), parts->begin() + static_cast<ptrdiff_t>(done));
  if (bytes > 0) {
    iovec& first = parts->front();
    first.iov_base = static_cast<char*>(first.iov_base) + bytes;
    first.iov_len -= bytes;
  }
}

// open(2), told to the recording: a file may come into being or lose its bytes.
int open_recorded(const std::string& path, int flags, unsigned mode) {
  const auto order = recorder::name_change();
  const bool made = (flags & O_CREAT) != 0 && ::access(path.c_str(), F_OK) != 0;
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  const int error = errno;
  if (fd >= 0 && made) recorder::made(path);
  errno = error;
  return fd;
}

// A call that syncs `file`, disturbed and told. 0 or an errno.
int sync_with(const File& file, int (*call)(int)) {
  return call_through(Operation::sync, file.path(), [&] {
    const bool recorded = recorder::running();
    const uint64_t before = recorded ? recorder::sync_begins() : 0;
    if (call(file.fd()) != 0) return -1;
    if (recorded) recorder::synced(file.fd(), before);
    return 0;
  });
}

Result<size_t> transfer(const File& file, bool write, std::span<const iovec> parts,
                        uint64_t offset) {
  std::vector<iovec> left(parts.begin(), parts.end());
  std::erase_if(left, [](const iovec& part) { return part.iov_len == 0; });
  size_t total = 0;
  while (!left.empty()) {
    const ssize_t moved = transfer_once(file, write, left, offset + total);
    if (moved < 0) {
      if (errno == EINTR) continue;
      return errno_status(errno, "%s %s at offset %llu", write ? "write" : "read",
                          file.path().c_str(), static_cast<unsigned long long>(offset + total));
    }
    if (moved == 0) break;
    total += static_cast<size_t>(moved);
    advance(&left, static_cast<size_t>(moved));
    // The end of a file that is no multiple of the block size: nothing can follow.
    if (!left.empty() && file.direct() && moved % 512 != 0) break;
  }
  return total;
}

}  // namespace

Result<File> File::open(std::string path, int flags, unsigned mode) {
  int fd = -1;
  do {
    const FaultEffect effect = fault(Operation::open, path);
    if (effect.error != 0) {
      errno = effect.error;
    } else if (effect.recorded && (flags & (O_CREAT | O_TRUNC)) != 0) {
      fd = open_recorded(path, flags, mode);
      if (fd >= 0 && (flags & O_TRUNC) != 0) recorder::resizes(fd, 0, false);
    } else {
      fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    }
  } while (fd < 0 && errno == EINTR);
  if (fd < 0 && (errno == EACCES || errno == EROFS)) {
    return errno_status(errno, "open %s: give this user access or choose another path",
                        path.c_str());
  }
  if (fd < 0) return errno_status(errno, "open %s", path.c_str());
  File file;
  file.fd_ = fd;
  file.direct_ = (flags & O_DIRECT) != 0;
  file.path_ = std::move(path);
  return file;
}

void File::close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

Result<size_t> read_at(const File& file, uint64_t offset, void* buffer, size_t bytes) {
  const iovec part{buffer, bytes};
  return transfer(file, false, {&part, 1}, offset);
}

Result<size_t> read_at(const File& file, uint64_t offset, std::span<const iovec> parts) {
  return transfer(file, false, parts, offset);
}

Status write_at(const File& file, uint64_t offset, const void* buffer, size_t bytes) {
  const iovec part{const_cast<void*>(buffer), bytes};
  return write_at(file, offset, std::span<const iovec>(&part, 1));
}

Status write_at(const File& file, uint64_t offset, std::span<const iovec> parts) {
  size_t wanted = 0;
  for (const iovec& part : parts) wanted += part.iov_len;
  UCM_TRY_ASSIGN(const size_t written, transfer(file, true, parts, offset));
  if (written != wanted) {
    return make_status(Code::io_error, "write %s: only %zu of %zu bytes were taken",
                       file.path().c_str(), written, wanted);
  }
  return {};
}

Status allocate(const File& file, uint64_t offset, uint64_t bytes) {
  UCM_TRY_ASSIGN(const uint64_t before, size_of(file));
  int error = 0;
  bool recorded = false;
  do {
    const FaultEffect effect = fault(Operation::allocate, file.path());
    error = effect.error;
    recorded = error == 0 && effect.recorded;
    if (recorded) recorder::resizes(file.fd(), offset + bytes, true);
    if (error == 0 &&
        ::fallocate(file.fd(), 0, static_cast<off_t>(offset), static_cast<off_t>(bytes)) != 0) {
      error = errno;
    }
  } while (error == EINTR);
  if (error == 0) return {};
  if (error == EOPNOTSUPP || error == ENOSYS) {
    return offset + bytes > before ? resize(file, offset + bytes) : Status();
  }
  // Some file systems keep the part they could reserve.
  if (::ftruncate(file.fd(), static_cast<off_t>(before)) != 0) error = errno;
  if (recorded) recorder::resizes(file.fd(), before, false);
  return errno_status(error, "reserve %llu bytes in %s", static_cast<unsigned long long>(bytes),
                      file.path().c_str());
}

Status resize(const File& file, uint64_t bytes) {
  const int error = call_through(Operation::allocate, file.path(), [&] {
    if (recorder::running()) recorder::resizes(file.fd(), bytes, false);
    return ::ftruncate(file.fd(), static_cast<off_t>(bytes));
  });
  if (error == 0) return {};
  return errno_status(error, "resize %s to %llu bytes", file.path().c_str(),
                      static_cast<unsigned long long>(bytes));
}

Status sync_data(const File& file) {
  const int error = sync_with(file, ::fdatasync);
  return error == 0 ? Status() : errno_status(error, "fdatasync %s", file.path().c_str());
}

Status sync_all(const File& file) {
  const int error = sync_with(file, ::fsync);
  return error == 0 ? Status() : errno_status(error, "fsync %s", file.path().c_str());
}

Result<uint64_t> size_of(const File& file) {
  struct stat info;
  const int error =
      call_through(Operation::stat, file.path(), [&] { return ::fstat(file.fd(), &info); });
  if (error == 0) return static_cast<uint64_t>(info.st_size);
  return errno_status(error, "stat %s", file.path().c_str());
}

}  // namespace ucm::io
