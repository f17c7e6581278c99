// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace ucm {

// memcpy that writes past the processor's caches when the piece is large: such a destination is
// cold, and reading its old lines only to overwrite them costs a third of the memory traffic.
void host_copy(void* dst, const void* src, size_t bytes);

}  // namespace ucm
