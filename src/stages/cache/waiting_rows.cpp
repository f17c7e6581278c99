// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/waiting_rows.h"

namespace ucm::stages::cache {

void WaitingRows::push(const Row& row) {
  auto [place, fresh] = rows_.try_emplace(row.key());
  if (fresh) order_.push_back(row.key());
  place->second.push_back(row);
  ++count_;
}

const std::vector<Row>& WaitingRows::front() {
  while (!rows_.contains(order_.front())) order_.pop_front();
  return rows_.at(order_.front());
}

void WaitingRows::pop() {
  const auto place = rows_.find(order_.front());
  count_ -= place->second.size();
  rows_.erase(place);
  order_.pop_front();
}

void WaitingRows::forget_front(size_t count) {
  std::vector<Row>& rows = rows_.at(order_.front());
  rows.erase(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(count));
  count_ -= count;
}

std::vector<Row> WaitingRows::extract(const std::function<bool(const Row&)>& leaves) {
  std::vector<Row> left;
  for (auto place = rows_.begin(); place != rows_.end();) {
    std::erase_if(place->second, [&](const Row& row) {
      if (!leaves(row)) return false;
      left.push_back(row);
      return true;
    });
    place = place->second.empty() ? rows_.erase(place) : std::next(place);
  }
  count_ -= left.size();
  return left;
}

}  // namespace ucm::stages::cache
