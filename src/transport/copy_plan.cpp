// SPDX-License-Identifier: Apache-2.0
#include "transport/copy_plan.h"

namespace ucm::transport {

void join_adjacent(std::vector<CopyPiece>* pieces) {
  if (pieces->empty()) return;
  size_t last = 0;
  for (size_t i = 1; i < pieces->size(); ++i) {
    CopyPiece& previous = (*pieces)[last];
    const CopyPiece& piece = (*pieces)[i];
    const bool touches = static_cast<std::byte*>(previous.dst) + previous.bytes == piece.dst &&
                         static_cast<const std::byte*>(previous.src) + previous.bytes == piece.src;
    if (touches) {
      previous.bytes += piece.bytes;
    } else {
      (*pieces)[++last] = piece;
    }
  }
  pieces->resize(last + 1);
}

}  // namespace ucm::transport
