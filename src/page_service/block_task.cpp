// SPDX-License-Identifier: Apache-2.0
#include "page_service/block_task.h"

namespace ucm::page_service {

BlockTask::BlockTask(Direction direction, std::vector<PageItem> items, uint32_t blocks,
                     const std::vector<bool>& stored, std::function<void(BlockTask&)> on_ready)
    : direction_(direction),
      block_count_(blocks),
      blocks_(new Block[blocks]),
      blocks_left_(blocks),
      on_ready_(std::move(on_ready)),
      transfers_(Task::make(1)) {
  items_.reserve(items.size());
  for (const PageItem& item : items) {
    if (stored[item.block]) {
      already_stored_.push_back(item.page);
    } else {
      items_.push_back(item);
      ++blocks_[item.block].left;
    }
  }
  pages_left_ = items_.size();
  for (uint32_t b = 0; b < blocks; ++b) {
    if (stored[b]) settle(&blocks_[b], BlockState::finished);
  }
}

std::vector<BlockState> BlockTask::states() const {
  std::vector<BlockState> out(block_count_);
  for (uint32_t b = 0; b < block_count_; ++b) {
    out[b] = blocks_[b].state.load(std::memory_order_acquire);
  }
  return out;
}

bool BlockTask::begin_copy(const PageItem& item) {
  const std::lock_guard lock(mutex_);
  if (aborted_) return false;
  ++copying_;
  Block& block = blocks_[item.block];
  if (block.state.load(std::memory_order_relaxed) == BlockState::initial) {
    block.state.store(BlockState::working, std::memory_order_relaxed);
  }
  return true;
}

void BlockTask::end_copy() {
  const std::lock_guard lock(mutex_);
  if (direction_ == Direction::dump) pages_left_.fetch_sub(1, std::memory_order_acq_rel);
  if (--copying_ == 0 && aborted_) copied_.notify_all();
}

void BlockTask::end_page(const PageItem& item, bool ok) {
  const std::lock_guard lock(mutex_);
  Block& block = blocks_[item.block];
  block.failed |= !ok;
  if (--block.left == 0) {
    settle(&block, block.failed ? BlockState::aborted : BlockState::finished);
  }
}

void BlockTask::abort() {
  transfers_->cancel();
  std::unique_lock lock(mutex_);
  aborted_ = true;
  copied_.wait(lock, [this] { return copying_ == 0; });
  for (uint32_t b = 0; b < block_count_; ++b) settle(&blocks_[b], BlockState::aborted);
}

void BlockTask::settle(Block* block, BlockState state) {
  const BlockState now = block->state.load(std::memory_order_relaxed);
  if (now == BlockState::finished || now == BlockState::aborted) return;
  block->state.store(state, std::memory_order_release);
  if (blocks_left_.load(std::memory_order_relaxed) == 1) on_ready_(*this);
  blocks_left_.fetch_sub(1, std::memory_order_acq_rel);
}

}  // namespace ucm::page_service
