// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <functional>
#include <unordered_map>
#include <vector>

#include "stages/cache/transfer.h"

namespace ucm::stages::cache {

// Rows that found no slot, first come first served by block: all rows of a block wait together,
// because one slot serves them all. Not thread-safe: the flow's lock guards it.
class WaitingRows {
 public:
  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }

  void push(const Row& row);
  // The rows of the next block, in the order they came; they stay until `pop`.
  const std::vector<Row>& front();
  void pop();
  // Takes the first `count` of the rows of `front` out; others stay.
  void forget_front(size_t count);
  // Takes out every row for which `leaves` says yes.
  std::vector<Row> extract(const std::function<bool(const Row&)>& leaves);

 private:
  std::deque<BlockKey> order_;  // may name blocks whose rows have all left
  std::unordered_map<BlockKey, std::vector<Row>> rows_;
  size_t count_ = 0;
};

}  // namespace ucm::stages::cache
