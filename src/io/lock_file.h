// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "io/files.h"

namespace ucm::io {

// An exclusive lock that ends with the process, however it ends (an open file description lock).
// The file holds the owner's pid as text, for error messages only. Move-only; the destructor lets
// go. A forked child that keeps running keeps the lock too: ucm forks nothing while it holds one.
class LockFile {
 public:
  LockFile() = default;
  // unavailable, naming the holder, when somebody else has it.
  static Result<LockFile> acquire(const std::string& path, unsigned mode = 0600);
  explicit operator bool() const { return static_cast<bool>(file_); }

 private:
  explicit LockFile(File file) : file_(std::move(file)) {}
  File file_;
};

// Whether somebody holds the lock; false when the file does not exist.
bool is_locked(const std::string& path);

}  // namespace ucm::io
