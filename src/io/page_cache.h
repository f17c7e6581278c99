// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/files.h"

// What the kernel has in memory, without waiting for the storage behind it: on a local file system
// none of these calls can hang. While faults are set they find nothing. Beside them:
// `File::open_cached` opens for reading when no name on the way has to be asked for, else the file
// is empty; `File::pass_cache` makes transfers of an open file go past the page cache from here on,
// false when the file system refuses.
namespace ucm::io {

// Whether all of the range was in the page cache and is in `buffer` now. When not, any part of the
// buffer may have changed.
bool read_cached(const File& file, uint64_t offset, void* buffer, size_t bytes);

}  // namespace ucm::io
