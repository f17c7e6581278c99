// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "base/checksum.h"
#include "ucm/device.h"

namespace ucm::base {

// Copies rows of equally many pieces, those of a row following each other at their destination, and
// turns `digests`, one for each row with its seed in `low`, into the `digest_128` of what now
// stands there. With wide registers every byte is read once, and many bytes are written past the
// caches.
void copy_digest_128(std::span<const CopyPiece> pieces, std::span<Digest> digests);

}  // namespace ucm::base
