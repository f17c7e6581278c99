// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <mutex>
#include <vector>

#include "memory/slot_memory.h"
#include "ucm/memory.h"

namespace ucm {
namespace {

// Free slots are a stack: the slot given back last is warm in the processor's caches and goes out
// first, and pages of slots that were never needed stay untouched.
class SlotPool : public Pool {
 public:
  explicit SlotPool(std::unique_ptr<memory::SlotMemory> memory)
      : memory_(std::move(memory)), slots_(memory_->slots()) {
    free_.reserve(slots_);
    for (size_t i = slots_; i > 0; --i) free_.push_back(static_cast<uint32_t>(i - 1));
  }

  Lease try_lease() override {
    uint32_t slot;
    {
      const std::lock_guard lock(mutex_);
      if (free_.empty()) return {};
      slot = free_.back();
      free_.pop_back();
      peak_ = std::max(peak_, slots_ - free_.size());
      memory_->set_used(slots_ - free_.size());
    }
    return make_lease(slot);
  }

  size_t slot_bytes() const override { return memory_->slot_bytes(); }
  size_t slots() const override { return slots_; }
  std::byte* slot_address(uint32_t slot) const override { return memory_->address(slot); }

  PoolStats stats() const override {
    const std::lock_guard lock(mutex_);
    const memory::Region& region = memory_->region();
    return {region.bytes(), (slots_ - free_.size()) * slot_bytes(), peak_ * slot_bytes(),
            region.page_bytes(), memory_->kind()};
  }

 protected:
  void give_back(uint32_t slot) override {
    const std::lock_guard lock(mutex_);
    free_.push_back(slot);
    memory_->set_used(slots_ - free_.size());
  }

 private:
  const std::unique_ptr<memory::SlotMemory> memory_;
  const size_t slots_;
  mutable std::mutex mutex_;
  std::vector<uint32_t> free_;
  size_t peak_ = 0;
};

}  // namespace

Lease::Lease(Lease&& other) noexcept
    : pool_(std::move(other.pool_)), data_(other.data_), slot_(other.slot_) {
  other.data_ = nullptr;
}

Lease& Lease::operator=(Lease&& other) noexcept {
  if (this != &other) {
    reset();
    pool_ = std::move(other.pool_);
    data_ = std::exchange(other.data_, nullptr);
    slot_ = other.slot_;
  }
  return *this;
}

void Lease::reset() {
  if (!pool_) return;
  pool_->give_back(slot_);
  pool_.reset();
  data_ = nullptr;
}

Result<std::shared_ptr<Pool>> Pool::make(const PoolOptions& options) {
  UCM_TRY_ASSIGN(auto memory, memory::SlotMemory::make(options));
  return std::shared_ptr<Pool>(std::make_shared<SlotPool>(std::move(memory)));
}

}  // namespace ucm
