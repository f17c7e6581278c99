// SPDX-License-Identifier: Apache-2.0
#include "memory/meeting_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <sstream>
#include <thread>
#include <utility>

namespace ucm::memory {
namespace {

// Whoever holds the lock maps memory and registers nothing: it is a matter of milliseconds.
constexpr std::chrono::seconds kPatience{10};
constexpr std::chrono::milliseconds kBetweenTries{2};
constexpr size_t kMostBytes = 1 << 16;

bool try_lock(int fd) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// Whether the path still leads to the open file: its last holder may have removed it meanwhile.
bool still_there(const std::string& path, int fd) {
  struct stat by_path = {};
  struct stat by_fd = {};
  return ::stat(path.c_str(), &by_path) == 0 && ::fstat(fd, &by_fd) == 0 &&
         by_path.st_ino == by_fd.st_ino && by_path.st_dev == by_fd.st_dev;
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    number_ = std::exchange(other.number_, -1);
  }
  return *this;
}

void Descriptor::reset() {
  if (number_ >= 0) ::close(number_);
  number_ = -1;
}

Result<std::string> runtime_directory() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  struct stat found = {};
  std::string path = "/tmp/ucm-" + std::to_string(::geteuid());
  if (runtime && ::stat(runtime, &found) == 0 && found.st_uid == ::geteuid()) {
    path = std::string(runtime) + "/ucm";
  }
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return errno_status(errno, "memory: make %s", path.c_str());
  }
  if (::lstat(path.c_str(), &found) != 0) {
    return errno_status(errno, "memory: look at %s", path.c_str());
  }
  if (!S_ISDIR(found.st_mode) || found.st_uid != ::geteuid() || (found.st_mode & 077) != 0) {
    return make_status(Code::unavailable,
                       "memory: %s is not a directory of this user alone (mode 0700); remove it",
                       path.c_str());
  }
  return path;
}

Result<MeetingFile> MeetingFile::enter(const std::string& path, bool make) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  MeetingFile meeting;
  meeting.path_ = path;
  while (std::chrono::steady_clock::now() < deadline) {
    meeting.file_ = Descriptor(
        ::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | (make ? O_CREAT : 0), 0600));
    if (!meeting.file_) return errno_status(errno, "memory: open %s", path.c_str());
    const bool locked = try_lock(meeting.file_.number());
    if (locked && still_there(path, meeting.file_.number())) {
      UCM_TRY(meeting.read());
      return meeting;
    }
    if (!locked) std::this_thread::sleep_for(kBetweenTries);
  }
  return make_status(Code::unavailable,
                     "memory: %s stays locked by another process that opens or closes the pool",
                     path.c_str());
}

Status MeetingFile::read() {
  std::string text(kMostBytes, '\0');
  const ssize_t got = ::pread(file_.number(), text.data(), text.size(), 0);
  if (got < 0) return errno_status(errno, "memory: read %s", path_.c_str());
  text.resize(static_cast<size_t>(got));
  std::istringstream words(text);
  words >> tag_;  // the lines end at a word that is no number
  for (Holder holder; words >> holder.pid >> holder.fd;) holders_.push_back(holder);
  return {};
}

Status MeetingFile::write(const std::string& tag, std::vector<Holder> holders) {
  tag_ = tag;
  holders_ = std::move(holders);
  std::ostringstream text;
  text << tag_ << "\n";
  for (const Holder& holder : holders_) text << holder.pid << " " << holder.fd << "\n";
  // One write, and what is left of a longer text before it stands behind the end mark: whoever is
  // killed here leaves the text as it was or as it shall be.
  text << "end\n";
  const std::string bytes = text.str();
  const auto length = static_cast<off_t>(bytes.size());
  if (::pwrite(file_.number(), bytes.data(), bytes.size(), 0) != length ||
      ::ftruncate(file_.number(), length) != 0) {
    return errno_status(errno, "memory: write %s", path_.c_str());
  }
  return {};
}

void MeetingFile::remove() { ::unlink(path_.c_str()); }

}  // namespace ucm::memory
