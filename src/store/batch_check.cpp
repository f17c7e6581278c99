// SPDX-License-Identifier: Apache-2.0
#include "store/batch_check.h"

namespace ucm {

Status check_batch(const Batch& batch, const BlockLayout& layout) {
  if (layout.empty()) {
    return make_status(Code::invalid_argument,
                       "batch: this store was opened for lookups only; open it with a layout");
  }
  const size_t rows = batch.rows();
  if (!batch.shards.empty() && batch.shards.size() != rows) {
    return make_status(Code::invalid_argument, "batch: %zu shard numbers for %zu keys",
                       batch.shards.size(), rows);
  }
  if (batch.addresses.size() != rows * layout.pieces()) {
    return make_status(Code::invalid_argument,
                       "batch: %zu addresses for %zu rows, expected %zu (%zu pieces a row)",
                       batch.addresses.size(), rows, rows * layout.pieces(), layout.pieces());
  }
  for (size_t row = 0; row < rows; ++row) {
    if (batch.shard(row) >= layout.shards()) {
      return make_status(Code::invalid_argument, "batch: row %zu has shard %u, expected 0 to %u",
                         row, batch.shard(row), layout.shards() - 1);
    }
  }
  for (size_t i = 0; i < batch.addresses.size(); ++i) {
    if (batch.addresses[i] == 0) {
      return make_status(Code::invalid_argument, "batch: row %zu has a null address",
                         i / layout.pieces());
    }
  }
  return {};
}

}  // namespace ucm
