// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

#include "io/faults.h"

// Where changes are told to the recording that is under way; without one, nothing happens. A write
// is told before it is made and a sync after it: between the two anything may be on the disk.
namespace ucm::io::recorder {

// Whether to tell at all.
inline bool running() { return (detail::layers_on.load(std::memory_order_relaxed) & 2u) != 0; }

void writes(int fd, uint64_t offset, std::span<const iovec> parts);
// The file gets this length; `grow_only`: unless it is longer already.
void resizes(int fd, uint64_t bytes, bool grow_only);

// Before a sync: what it is going to make safe. After it: it did, for `bytes` from `offset` on.
uint64_t sync_begins();
void synced(int fd, uint64_t before, uint64_t offset = 0, uint64_t bytes = UINT64_MAX);

// Held over a call that changes names, so that the calls are told in their order; tell it with one
// of the following when the call was a success.
std::unique_lock<std::mutex> name_change();
void made(const std::string& path);  // a file or a folder that was not there before
void renamed(const std::string& from, const std::string& to);
void linked(const std::string& to);
void removed(const std::string& path);

// Memory through which a file changes without calls.
void mapped(int fd, const std::byte* data, uint64_t bytes);
void unmapped(const std::byte* data);

}  // namespace ucm::io::recorder
