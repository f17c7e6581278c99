// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "io/files.h"
#include "ucm/status.h"

namespace ucm::posix {

// The right to collect in a store, held by one process at a time: a file in the first root that is
// renewed by its time of modification. A lease that was not renewed for a minute, or whose process
// on this machine is gone, is taken over. Two holders for a moment do no harm: they pick the same
// blocks. Used by one thread.
class CollectorLease {
 public:
  explicit CollectorLease(const std::string& root);
  ~CollectorLease() { release(); }

  // False: somebody else collects. On a full disk the right is taken without a file.
  Result<bool> acquire(unsigned file_mode);
  // False: the lease was lost, stop.
  bool renew();
  void release();
  // The clock of the file server when the lease was acquired, to judge the age of files by.
  int64_t server_now_ns() const { return server_now_ns_; }

 private:
  bool stale() const;

  const std::string root_;
  const std::string path_;
  io::File file_;
  uint64_t inode_ = 0;
  int64_t server_now_ns_ = 0;
  bool without_file_ = false;
};

}  // namespace ucm::posix
