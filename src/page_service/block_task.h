// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "ucm/page_service.h"
#include "ucm/task.h"

namespace ucm::page_service {

// One page of a task: what names it, and where it lies in the tensor.
struct PageItem {
  BlockKey key;
  int32_t page = 0;    // row of the tensor
  uint32_t block = 0;  // of the task
};

// The state of a task. Whoever touches the tensor does so between `begin_copy` and `end_copy`; an
// abort forbids new copies and waits for those that run, which take as long as copying a page.
class BlockTask final : public PageTask {
 public:
  // `items` are sorted by block; `stored[b]` tells blocks that need no work. `on_ready` is called
  // once, when the last block is over, on the thread that ended it.
  BlockTask(Direction direction, std::vector<PageItem> items, uint32_t blocks,
            const std::vector<bool>& stored, std::function<void(BlockTask&)> on_ready);

  Direction direction() const override { return direction_; }
  bool ready() const override { return blocks_left_.load(std::memory_order_acquire) == 0; }
  bool data_safe() const override {
    return ready() ||
           (direction_ == Direction::dump && pages_left_.load(std::memory_order_acquire) == 0);
  }
  std::vector<BlockState> states() const override;
  const std::vector<int32_t>& already_stored() const override { return already_stored_; }

  const std::vector<PageItem>& items() const { return items_; }
  // What was given at construction and needs work, in order; taken by the service under its lock.
  size_t next = 0;
  // Cancels transfers of the store that have not begun.
  const TaskPtr& transfers() const { return transfers_; }

  // False once the task is aborted: then the tensor must not be touched.
  bool begin_copy(const PageItem& item);
  void end_copy();
  // The page is done with, well or not.
  void end_page(const PageItem& item, bool ok);
  void abort();

 private:
  struct Block {
    std::atomic<BlockState> state{BlockState::initial};
    uint32_t left = 0;  // pages
    bool failed = false;
  };
  void settle(Block* block, BlockState state);

  const Direction direction_;
  std::vector<PageItem> items_;
  std::vector<int32_t> already_stored_;
  const uint32_t block_count_;
  const std::unique_ptr<Block[]> blocks_;
  std::atomic<uint32_t> blocks_left_;
  std::atomic<uint64_t> pages_left_;  // to copy out
  const std::function<void(BlockTask&)> on_ready_;
  const TaskPtr transfers_;

  std::mutex mutex_;  // guards the blocks' changes and what is below
  std::condition_variable copied_;
  uint32_t copying_ = 0;
  bool aborted_ = false;
};
using BlockTaskPtr = std::shared_ptr<BlockTask>;

}  // namespace ucm::page_service
