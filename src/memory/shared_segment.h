// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "memory/meeting_file.h"
#include "ucm/status.h"

namespace ucm::memory {

// Memory that processes of one user on one machine share: a memfd without a name in any file
// system, gone with the last process that maps it, however that ends. They meet by a small file in
// the runtime directory (docs/formats.md) that says which processes have it open; a newcomer opens
// it through /proc/<pid>/fd, so nobody needs a thread to hand it out. Each member has a number and
// an open file description of its own with a lock on that byte of the memfd: the kernel lets go of
// the lock when the last thread of the process is gone, which is what `alive` asks.
class SharedSegment {
 public:
  static constexpr unsigned kMembers = 64;
  static constexpr unsigned kNoMember = 0xFF;
  // Where `data` begins in the file, for those who care for its alignment to large pages.
  static constexpr size_t kDataOffset = 4096;

  // Fills fresh zeroed memory before anybody else can see it.
  using Prepare = std::function<void(std::byte* data)>;

  // Joins the segment that is met at `path`, or makes one of `bytes`. Takes a member number;
  // unavailable when all are taken. The bytes of one that is there already may be others.
  static Result<std::unique_ptr<SharedSegment>> join(const std::string& path, size_t bytes,
                                                     const Prepare& prepare);
  // Looks on without a number. not_found when nobody has it open.
  static Result<std::unique_ptr<SharedSegment>> find(const std::string& path);
  ~SharedSegment();
  SharedSegment(const SharedSegment&) = delete;
  SharedSegment& operator=(const SharedSegment&) = delete;

  std::byte* data() const;
  size_t bytes() const;
  unsigned member() const { return member_; }
  // Whether a number is taken by a process that is there. Two system calls at most.
  bool alive(unsigned member) const;

 private:
  struct Header;
  explicit SharedSegment(std::string path) : path_(std::move(path)) {}
  Status create(size_t bytes, const Prepare& prepare);
  // Opens what a holder has; false when that is not the segment (any more).
  bool reach(const MeetingFile::Holder& holder, const std::string& tag);
  Status map();
  Status take_number();
  Status enlist(MeetingFile* meeting, bool as_member);
  Header* header() const { return reinterpret_cast<Header*>(mapped_); }

  const std::string path_;
  Descriptor memory_;
  std::byte* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
  unsigned member_ = kNoMember;
};

}  // namespace ucm::memory
