// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "page_service/tensor_service.h"
#include "ucm/log.h"

namespace ucm::page_service {
namespace {

constexpr std::chrono::seconds kLogEvery{10};

}  // namespace

// Slots come back one by one; a thread that is woken for each of them does little else.
bool TensorService::can_dump() const {
  return !dumps_.empty() && !free_.empty() && slots_ / 2 - dump_slots_ >= bundle_pages_;
}

// How many slots loads may take: one is left to dumps that have none.
size_t TensorService::slots_for_loads() const {
  if (loads_.empty()) return 0;
  return free_.size() - (can_dump() && dump_slots_ == 0 ? 1 : 0);
}

bool TensorService::has_step() const {
  return !landed_.empty() || slots_for_loads() > 0 || can_dump();
}

void TensorService::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || has_step(); });
    if (stopping_) return;
    // What somebody waits for goes first: copying frees slots, and of four steps three are loads'.
    const size_t room = slots_for_loads();
    if (!landed_.empty()) {
      const auto [bundle, row] = std::move(landed_.front());
      landed_.pop_front();
      lock.unlock();
      land(bundle, row);
    } else if (room > 0 && !(can_dump() && ++turns_ % 4 == 0)) {
      const BundlePtr bundle = take_pages(&loads_, room);
      lock.unlock();
      load_pages(bundle);
    } else {
      const BundlePtr bundle = take_pages(&dumps_, slots_ / 2 - dump_slots_);
      dump_slots_ += bundle->pages.size();
      lock.unlock();
      dump_pages(bundle);
    }
    lock.lock();
  }
}

// The next pages of the first task, each with a slot.
TensorService::BundlePtr TensorService::take_pages(std::deque<BlockTaskPtr>* queue, size_t most) {
  auto bundle = std::make_shared<Bundle>();
  bundle->task = queue->front();
  BlockTask& task = *bundle->task;
  const size_t left = task.ready() ? 0 : task.items().size() - task.next;
  const size_t count = std::min({left, most, free_.size(), bundle_pages_});
  bundle->pages.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    bundle->pages.push_back({task.items()[task.next++], std::move(free_.back())});
    free_.pop_back();
  }
  if (count == left) queue->pop_front();
  if (queue->empty()) closed_.notify_all();
  return bundle;
}

void TensorService::dump_pages(const BundlePtr& bundle) {
  pass_on_uses();
  std::vector<PageRow> rows;
  std::vector<Lease> unused;
  const uint64_t padding = pool_->slot_bytes() - tensor_.page_bytes;
  for (uint32_t i = 0; i < bundle->pages.size(); ++i) {
    Staged& staged = bundle->pages[i];
    if (!bundle->task->begin_copy(staged.item)) {
      unused.push_back(std::move(staged.slot));
      continue;
    }
    std::byte* const slot = staged.slot.data();
    std::memcpy(slot, address(staged.item), tensor_.page_bytes);
    bundle->task->end_copy();
    std::memset(slot + tensor_.page_bytes, 0, padding);
    rows.push_back({staged.item.key, slot, static_cast<uint32_t>(tensor_.page_bytes),
                    static_cast<uint32_t>(pool_->slot_bytes()), i});
  }
  const size_t dumps = unused.size();
  give_back(std::move(unused), dumps);
  if (rows.empty()) return;
  store_->dump(
      rows,
      [self = shared_from_this(), bundle](uint32_t row, const Status& status) {
        self->store_answered(bundle, row, status);
      },
      nullptr);
}

void TensorService::load_pages(const BundlePtr& bundle) {
  std::vector<PageRow> rows;
  for (uint32_t i = 0; i < bundle->pages.size(); ++i) {
    const Staged& staged = bundle->pages[i];
    rows.push_back({staged.item.key, staged.slot.data(), static_cast<uint32_t>(tensor_.page_bytes),
                    static_cast<uint32_t>(pool_->slot_bytes()), i});
  }
  if (rows.empty()) return;
  store_->load(
      rows,
      [self = shared_from_this(), bundle](uint32_t row, const Status& status) {
        self->store_answered(bundle, row, status);
      },
      bundle->task->transfers());
}

void TensorService::store_answered(const BundlePtr& bundle, uint32_t row, const Status& status) {
  leave_folder();
  Staged& staged = bundle->pages[row];
  const Direction direction = bundle->task->direction();
  if (direction == Direction::load && status.ok()) {
    const std::lock_guard lock(mutex_);
    landed_.emplace_back(bundle, row);
    wake_.notify_one();
    return;
  }
  if (status.ok()) {
    ++moved_[index(direction)];
  } else {
    count_failure(direction, staged.item, status);
  }
  bundle->task->end_page(staged.item, status.ok());
  std::vector<Lease> slots;
  slots.push_back(std::move(staged.slot));
  give_back(std::move(slots), direction == Direction::dump ? 1 : 0);
}

void TensorService::land(const BundlePtr& bundle, uint32_t row) {
  Staged& staged = bundle->pages[row];
  if (bundle->task->begin_copy(staged.item)) {
    std::memcpy(address(staged.item), staged.slot.data(), tensor_.page_bytes);
    ++moved_[index(Direction::load)];
    bundle->task->end_copy();
    bundle->task->end_page(staged.item, true);
  }
  std::vector<Lease> slots;
  slots.push_back(std::move(staged.slot));
  give_back(std::move(slots), 0);
}

void TensorService::give_back(std::vector<Lease> slots, size_t dumps) {
  if (slots.empty()) return;
  const std::lock_guard lock(mutex_);
  for (Lease& slot : slots) free_.push_back(std::move(slot));
  dump_slots_ -= dumps;
  if (dumps > 0 && dump_slots_ == 0) closed_.notify_all();
  if (has_step()) wake_.notify_one();
}

void TensorService::count_failure(Direction direction, const PageItem& item, const Status& status) {
  // A page that was evicted since it was asked for is a miss, and an abort is no failure.
  const bool loud = status.code() != Code::not_found && status.code() != Code::cancelled &&
                    status.code() != Code::unsupported;
  const auto now = std::chrono::steady_clock::now();
  uint64_t count = 0;
  bool say = false;
  {
    const std::lock_guard lock(notes_mutex_);
    count = ++failed_[index(direction)][std::string(name(status.code()))];
    auto& next = next_log_[index(direction)];
    say = loud && now >= next;
    if (say) next = now + kLogEvery;
  }
  if (!say) return;
  log(LogLevel::warning, "light_mem: page %d was not %s (%llu such pages so far): %s", item.page,
      direction == Direction::dump ? "stored" : "read", static_cast<unsigned long long>(count),
      status.to_string().c_str());
}

}  // namespace ucm::page_service
