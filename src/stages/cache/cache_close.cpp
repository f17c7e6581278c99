// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/cache_flow.h"

namespace ucm::stages::cache {

// Blocks whose other shards can not come any more because the store closes. In a shared pool they
// may come from others.
void CacheFlow::fail_incomplete() {
  SlotTable& slots = *parts_.slots;
  if (slots.shared()) return;
  for (uint32_t slot = 0; slot < slots.slots(); ++slot) {
    if (slots.state(slot) != SlotState::gathering || slots.pins_here(slot) == 0) continue;
    if (slots.all_claimed(slot)) continue;
    Filling& filling = fillings_[slot];
    if (filling.failure.ok()) filling.failure = closed_status();
    slots.doom(slot);
  }
}

void CacheFlow::end_waiting(Work* work) {
  for (WaitingRows* rows : {&waiting_, &elsewhere_}) {
    for (const Row& row : rows->extract([](const Row&) { return true; })) {
      work->finished.push_back({row, closed_status()});
    }
  }
}

void CacheFlow::drain() {
  Work work;
  {
    const Guard guard(this);
    closed_ = true;
    end_waiting(&work);
    fail_incomplete();
  }
  act(std::move(work));
  std::unique_lock lock(mutex_);
  idle_.wait_for(lock, parts_.timeout, [this] { return open_ == 0; });
}

// The storage may still write into slots, which stay as long as it does; the callers' memory is
// only touched by copies.
void CacheFlow::give_up() {
  Work work;
  {
    const Guard guard(this);
    end_waiting(&work);
    for (auto& [slot, filling] : fillings_) {
      for (const Row& row : filling.waiters) work.finished.push_back({row, closed_status()});
      filling.waiters.clear();
    }
  }
  act(std::move(work));
  parts_.copier->close();
}

}  // namespace ucm::stages::cache
