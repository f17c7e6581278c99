// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "io/files.h"
#include "io/paths.h"
#include "ucm/status.h"

// The file system calls only this stage needs, on top of src/io and with its fault layer.
namespace ucm::posix {

int64_t unix_now_ns();

// What a name of a file stands for of its bytes: blocks that share a file have a name each.
inline uint64_t share_of(const io::PathInfo& info) {
  return info.bytes / (info.links == 0 ? 1 : info.links);
}

// fstat of an open file.
Result<io::PathInfo> file_info(const io::File& file);
// Sets the time of modification; "now" where only the owner may choose it. A hint, never fails.
void set_modified(const io::File& file, int64_t unix_ns);
// The same with the file server's idea of now.
void set_modified_now(const io::File& file);
// Permissions exactly as given, whatever the umask is.
Status set_mode(const std::string& path, unsigned mode);

// Gives the finished file `from` the name `to`, in one step. False when `to` exists already: then
// both files are as they were. A rename that a network file system carried out twice is success.
Result<bool> publish_name(const std::string& from, const std::string& to, uint64_t inode);

// Gives the finished file `from` one more name, in one step. False when `to` exists already.
Result<bool> add_name(const std::string& from, const std::string& to, uint64_t inode);

// The folder is there, and this user may make files in it; the text says what to change.
Status check_writable(const std::string& folder);
// The errno of a device or a server that does not work, or 0: what is there is configured wrongly.
int device_error(const std::string& path);
// NFS and SMB: other machines see what was written only after it was flushed.
bool on_network(const std::string& path);
// A file system of this machine alone: what its page cache holds is what is stored, and reading
// that waits for no device.
bool on_local_disk(const std::string& path);
// The name of this machine, fit for a file name.
std::string host_name();

}  // namespace ucm::posix
