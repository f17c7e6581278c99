// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_lease.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>

#include "io/paths.h"
#include "stages/posix/posix_calls.h"
#include "stages/posix/posix_root.h"

namespace ucm::posix {
namespace {

constexpr int64_t kLeaseNs = 60'000'000'000;

std::string holder_text() { return host_name() + " " + std::to_string(::getpid()) + "\n"; }

// Whether "host pid" names a process of this machine that is gone.
bool is_dead_here(const std::string& text) {
  const std::string here = host_name() + " ";
  if (text.compare(0, here.size(), here) != 0) return false;
  pid_t pid = 0;
  std::from_chars(text.data() + here.size(), text.data() + text.size(), pid);
  return pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH;
}

}  // namespace

CollectorLease::CollectorLease(const std::string& root)
    : root_(root), path_(io::join(root, ".collector")) {}

bool CollectorLease::stale() const {
  const auto info = io::path_info(path_);
  if (!info.ok()) return info.status().code() == Code::not_found;
  if (server_now_ns_ - info.value().modified_ns > kLeaseNs) return true;
  const auto text = io::read_small_file(path_, 4096);
  return text.ok() && is_dead_here(text.value());
}

Result<bool> CollectorLease::acquire(unsigned file_mode) {
  const std::string aside = temporary_path(root_);
  auto opened = io::File::open(aside, O_RDWR | O_CREAT | O_EXCL, file_mode);
  if (opened.status().code() == Code::no_space) {
    // Collecting is what helps now.
    without_file_ = true;
    server_now_ns_ = unix_now_ns();
    return true;
  }
  UCM_TRY_ASSIGN(file_, std::move(opened));
  // Who holds it is only a hint: it may be missing when the disk is full.
  const std::string text = holder_text();
  (void)io::write_at(file_, 0, text.data(), text.size());
  const auto info = file_info(file_);
  Result<bool> ours = info.status();
  if (info.ok()) {
    inode_ = info.value().inode;
    server_now_ns_ = info.value().modified_ns;
    ours = publish_name(aside, path_, inode_);
  }
  if (ours.ok() && !ours.value() && stale()) {
    const Status status = io::rename_path(aside, path_);
    ours = status.ok() ? Result<bool>(true) : Result<bool>(status);
  }
  if (!ours.ok() || !ours.value()) {
    (void)io::unlink_file(aside);
    file_.close();
  }
  return ours;
}

bool CollectorLease::renew() {
  if (without_file_) return true;
  if (!file_) return false;
  const auto info = io::path_info(path_);
  if (!info.ok() || info.value().inode != inode_) {
    file_.close();
    return false;
  }
  set_modified_now(file_);
  return true;
}

void CollectorLease::release() {
  if (!file_ || !renew()) return;
  (void)io::unlink_file(path_);
  file_.close();
}

}  // namespace ucm::posix
