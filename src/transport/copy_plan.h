// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "ucm/device.h"

namespace ucm::transport {

// Joins neighbours that touch on both sides, in place and in order: fewer, longer copies.
void join_adjacent(std::vector<CopyPiece>* pieces);

}  // namespace ucm::transport
