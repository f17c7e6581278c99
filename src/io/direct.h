// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "io/files.h"
#include "ucm/status.h"

// Transfers past the page cache.
namespace ucm::io {

// Opens with O_DIRECT where `want_direct` is set and the file system takes transfers aligned to
// kAlign; else buffered, with one warning per file system. `File::direct` says what came out.
Result<File> open_direct(const std::string& path, int flags, unsigned mode, bool want_direct);

// The alignment direct transfers on this open file need (memory and offset, the larger one);
// 0 when they are refused.
size_t direct_alignment(const File& file);

// Lets go of the page cache of a range that was read or written buffered; a hint, never fails.
void drop_cache(const File& file, uint64_t offset, uint64_t bytes);

}  // namespace ucm::io
