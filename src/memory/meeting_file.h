// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "ucm/status.h"

namespace ucm::memory {

// A file descriptor of this process; closed with the object. Move-only.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { reset(); }
  explicit operator bool() const { return number_ >= 0; }
  int number() const { return number_; }
  void reset();

 private:
  int number_;
};

// Where shared memory is met: $XDG_RUNTIME_DIR/ucm, or /tmp/ucm-<uid> where there is none. It is
// made with mode 0700; one that belongs to somebody else or that others can enter is refused.
Result<std::string> runtime_directory();

// The small text file by which processes find a segment, held under its lock while this object
// lives. It says which segment (`tag`) and who has it open; a line of a process that died does no
// harm. The lock ends with its process.
class MeetingFile {
 public:
  struct Holder {
    pid_t pid = 0;
    int fd = -1;
    friend bool operator==(const Holder&, const Holder&) = default;
  };

  // not_found when `make` is false and there is none; unavailable when the lock stays taken.
  static Result<MeetingFile> enter(const std::string& path, bool make);

  const std::string& tag() const { return tag_; }
  const std::vector<Holder>& holders() const { return holders_; }
  Status write(const std::string& tag, std::vector<Holder> holders);
  // The last holder has left.
  void remove();

 private:
  Status read();

  std::string path_;
  Descriptor file_;
  std::string tag_;
  std::vector<Holder> holders_;
};

}  // namespace ucm::memory
