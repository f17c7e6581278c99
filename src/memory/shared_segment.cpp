// SPDX-License-Identifier: Apache-2.0
#include "memory/shared_segment.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "ucm/log.h"

namespace ucm::memory {
namespace {

constexpr char kName[] = "ucm-pool";
constexpr std::string_view kLink = "/memfd:ucm-pool";
constexpr uint64_t kMagic = 0x314C4F4F504D4355ull;  // "UCMPOOL1"
constexpr size_t kTagBytes = 32;

std::string random_tag() {
  uint64_t words[2] = {};
  (void)!::getrandom(words, sizeof(words), 0);
  char text[kTagBytes + 1];
  std::snprintf(text, sizeof(text), "%016llx%016llx", static_cast<unsigned long long>(words[0]),
                static_cast<unsigned long long>(words[1]));
  return text;
}

std::string link_of(const MeetingFile::Holder& holder) {
  return "/proc/" + std::to_string(holder.pid) + "/fd/" + std::to_string(holder.fd);
}

// Whether a line leads to a pool no more: its process has ended, or its number means another one.
bool is_gone(const MeetingFile::Holder& holder) {
  char target[64] = {};
  if (::readlink(link_of(holder).c_str(), target, sizeof(target) - 1) < 0) {
    return errno != EACCES && errno != EPERM;
  }
  return !std::string_view(target).starts_with(kLink);
}

// It may be a process of somebody else that has the number of one that is gone.
void warn_if_hidden(const MeetingFile::Holder& holder) {
  char target[64];
  if (::readlink(link_of(holder).c_str(), target, sizeof(target)) >= 0) return;
  if (errno != EACCES && errno != EPERM) return;
  log(LogLevel::warning,
      "memory: /proc/%d/fd can not be read; if that process shares a pool, run both as the same "
      "user with the same rights: this one makes a pool of its own",
      static_cast<int>(holder.pid));
}

struct flock byte_of(unsigned member) {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = member;
  lock.l_len = 1;
  return lock;
}

}  // namespace

struct SharedSegment::Header {
  uint64_t magic;
  uint64_t bytes;
  char tag[kTagBytes];
  std::atomic<int32_t> pids[kMembers];
};

Result<std::unique_ptr<SharedSegment>> SharedSegment::join(const std::string& path, size_t bytes,
                                                           const Prepare& prepare) {
  // Made first: when it goes after a failure, the meeting is over and it can enter it again.
  std::unique_ptr<SharedSegment> segment(new SharedSegment(path));
  UCM_TRY_ASSIGN(MeetingFile meeting, MeetingFile::enter(path, /*make=*/true));
  for (const MeetingFile::Holder& holder : meeting.holders()) {
    if (segment->reach(holder, meeting.tag())) break;
  }
  if (!segment->memory_) {
    for (const MeetingFile::Holder& holder : meeting.holders()) warn_if_hidden(holder);
    UCM_TRY(segment->create(bytes, prepare));
  }
  UCM_TRY(segment->enlist(&meeting, /*as_member=*/true));
  return segment;
}

Result<std::unique_ptr<SharedSegment>> SharedSegment::find(const std::string& path) {
  // Made first: when it goes after a failure, the meeting is over and it can enter it again.
  std::unique_ptr<SharedSegment> segment(new SharedSegment(path));
  UCM_TRY_ASSIGN(MeetingFile meeting, MeetingFile::enter(path, /*make=*/false));
  for (const MeetingFile::Holder& holder : meeting.holders()) {
    if (segment->reach(holder, meeting.tag())) break;
  }
  if (!segment->memory_) {
    meeting.remove();
    return make_status(Code::not_found, "memory: nobody has the pool of %s open", path.c_str());
  }
  UCM_TRY(segment->enlist(&meeting, /*as_member=*/false));
  return segment;
}

SharedSegment::~SharedSegment() {
  if (!mapped_) return;
  auto meeting = MeetingFile::enter(path_, /*make=*/false);
  if (meeting.ok() && meeting.value().tag() == std::string(header()->tag, kTagBytes)) {
    std::vector<MeetingFile::Holder> others = meeting.value().holders();
    std::erase(others, MeetingFile::Holder{::getpid(), memory_.number()});
    std::erase_if(others, is_gone);
    if (others.empty()) {
      meeting.value().remove();
    } else {
      // A line that stays after all is one of a process that is gone: it does no harm.
      (void)meeting.value().write(meeting.value().tag(), std::move(others));
    }
  }
  ::munmap(mapped_, mapped_bytes_);
}

std::byte* SharedSegment::data() const { return mapped_ + kDataOffset; }

size_t SharedSegment::bytes() const { return mapped_bytes_ - kDataOffset; }

bool SharedSegment::alive(unsigned member) const {
  if (member == member_) return true;
  struct flock lock = byte_of(member);
  if (::fcntl(memory_.number(), F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK) return false;
  // A forked child keeps the lock of its parent, but not the parent.
  const pid_t pid = header()->pids[member].load(std::memory_order_acquire);
  return pid <= 0 || ::kill(pid, 0) == 0 || errno != ESRCH;
}

Status SharedSegment::create(size_t bytes, const Prepare& prepare) {
  Descriptor fresh(::memfd_create(kName, MFD_CLOEXEC));
  if (!fresh) return errno_status(errno, "memory: make a shared pool");
  const size_t whole = kDataOffset + bytes;
  if (::ftruncate(fresh.number(), static_cast<off_t>(whole)) != 0) {
    return errno_status(errno, "memory: a shared pool of %zu bytes", whole);
  }
  // Opened once more, as everybody else opens it: locks belong to the open file description.
  const std::string own = "/proc/self/fd/" + std::to_string(fresh.number());
  memory_ = Descriptor(::open(own.c_str(), O_RDWR | O_CLOEXEC));
  if (!memory_) return errno_status(errno, "memory: open %s", own.c_str());
  UCM_TRY(map());
  header()->bytes = whole;
  std::memcpy(header()->tag, random_tag().data(), kTagBytes);
  header()->magic = kMagic;
  prepare(data());
  return {};
}

bool SharedSegment::reach(const MeetingFile::Holder& holder, const std::string& tag) {
  const std::string path = link_of(holder);
  // The number may name anything by now: look before opening it.
  if (is_gone(holder)) return false;
  memory_ = Descriptor(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (memory_ && map().ok() && header()->magic == kMagic && header()->bytes == mapped_bytes_ &&
      tag == std::string(header()->tag, kTagBytes)) {
    return true;
  }
  if (mapped_) ::munmap(mapped_, mapped_bytes_);
  mapped_ = nullptr;
  memory_.reset();
  return false;
}

Status SharedSegment::map() {
  struct stat found = {};
  if (::fstat(memory_.number(), &found) != 0) return errno_status(errno, "memory: look at a pool");
  const auto bytes = static_cast<size_t>(found.st_size);
  if (bytes <= kDataOffset) return make_status(Code::not_found, "memory: a pool without content");
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory_.number(), 0);
  if (mapped == MAP_FAILED) return errno_status(errno, "memory: map a pool of %zu bytes", bytes);
  mapped_ = static_cast<std::byte*>(mapped);
  mapped_bytes_ = bytes;
  return {};
}

Status SharedSegment::take_number() {
  for (unsigned i = 0; i < kMembers; ++i) {
    struct flock lock = byte_of(i);
    if (::fcntl(memory_.number(), F_OFD_SETLK, &lock) != 0) continue;
    header()->pids[i].store(::getpid(), std::memory_order_release);
    member_ = i;
    return {};
  }
  return make_status(Code::unavailable, "memory: %u stores share the pool of %s already", kMembers,
                     path_.c_str());
}

Status SharedSegment::enlist(MeetingFile* meeting, bool as_member) {
  if (as_member) UCM_TRY(take_number());
  std::vector<MeetingFile::Holder> holders = meeting->holders();
  // Lines of processes that are gone leave with the next one that comes.
  std::erase_if(holders, is_gone);
  holders.push_back({::getpid(), memory_.number()});
  return meeting->write(std::string(header()->tag, kTagBytes), std::move(holders));
}

}  // namespace ucm::memory
