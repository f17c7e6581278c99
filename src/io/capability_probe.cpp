// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <utility>

#include "io/aligned_buffer.h"
#include "io/direct.h"
#include "io/engine.h"
#include "io/faults.h"
#include "io/paths.h"
#include "ucm/io_capabilities.h"

namespace ucm {
namespace {

std::string file_system_name(const std::string& path) {
  static constexpr std::array<std::pair<unsigned long, const char*>, 14> kNames = {{
      {0xEF53, "ext4"},
      {0x58465342, "xfs"},
      {0x9123683E, "btrfs"},
      {0x01021994, "tmpfs"},
      {0x6969, "nfs"},
      {0x794C7630, "overlay"},
      {0x65735546, "fuse"},
      {0x0BD00BD0, "lustre"},
      {0x00C36400, "ceph"},
      {0xF2F52010, "f2fs"},
      {0x2FC12FC1, "zfs"},
      {0xFF534D42, "cifs"},
      {0x47504653, "gpfs"},
      {0x19830326, "beegfs"},
  }};
  struct statfs info;
  const int error =
      io::call_through(io::Operation::stat, path, [&] { return ::statfs(path.c_str(), &info); });
  if (error != 0) return "unknown";
  const auto type = static_cast<unsigned long>(info.f_type) & 0xFFFFFFFFul;
  for (const auto& [magic, name] : kNames) {
    if (magic == type) return name;
  }
  char text[24];
  std::snprintf(text, sizeof text, "0x%lx", type);
  return text;
}

// The folder itself or its nearest parent that exists.
Result<std::string> existing_folder(std::string path) {
  if (path.empty()) return make_status(Code::invalid_argument, "an empty path names no folder");
  while (true) {
    const auto info = io::path_info(path);
    if (info.ok()) {
      if (info.value().is_folder) return path;
      return make_status(Code::invalid_argument, "%s is a file, not a folder", path.c_str());
    }
    if (info.status().code() != Code::not_found) return info.status();
    const size_t slash = path.find_last_of('/');
    if (slash == std::string::npos) {
      path = ".";
    } else {
      path.resize(slash == 0 ? 1 : slash);
    }
  }
}

void probe_direct(const std::string& probe, IoCapabilities* found) {
  auto file = io::File::open(probe, O_RDWR | O_DIRECT);
  if (!file.ok()) {
    found->direct_reason = file.status().message();
    return;
  }
  const size_t align = io::direct_alignment(file.value());
  const io::AlignedBuffer page = io::AlignedBuffer::make(kAlign);
  const Status written =
      align == 0 || align > kAlign || !page
          ? make_status(Code::unsupported, "%s needs %zu-byte alignment", probe.c_str(), align)
          : io::write_at(file.value(), 0, page.data(), page.bytes());
  found->o_direct = written.ok();
  found->direct_alignment = written.ok() ? align : 0;
  if (!written.ok()) found->direct_reason = written.message();
}

}  // namespace

Result<IoCapabilities> io_capabilities(const std::string& path) {
  UCM_TRY_ASSIGN(const std::string folder, existing_folder(path));
  IoCapabilities found;
  found.file_system = file_system_name(folder);
  UCM_TRY_ASSIGN(const io::SpaceInfo space, io::space_of(folder));
  found.total_bytes = space.total_bytes;
  found.free_bytes = space.free_bytes;
  const std::string probe = io::join(folder, ".ucm-probe-" + std::to_string(::getpid()));
  const auto made = io::File::open(probe, O_RDWR | O_CREAT | O_EXCL);
  found.writable = made.ok();
  if (made.ok()) {
    probe_direct(probe, &found);
    UCM_TRY(io::unlink_file(probe));
  } else {
    found.direct_reason = made.status().message();
  }
  const auto ring = io::make_uring_engine({});
  found.io_uring = ring.ok();
  if (!ring.ok()) found.io_uring_reason = ring.status().message();
  return found;
}

}  // namespace ucm
