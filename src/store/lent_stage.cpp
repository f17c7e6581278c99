// SPDX-License-Identifier: Apache-2.0
#include "store/lent_stage.h"

#include <chrono>
#include <system_error>
#include <thread>

#include "base/worker_group.h"
#include "ucm/log.h"

namespace ucm {
namespace {

// Closed stages answer at once; who is inside for longer than this hangs.
constexpr std::chrono::seconds kPatience{1};

Status gone() { return make_status(Code::unavailable, "the stage below is closed"); }

// On a thread of its own: the one that was in the stage last may be one that the stage joins.
void destroy_elsewhere(StorePtr stage) {
  Store* const left = stage.release();
  try {
    std::thread([left] {
      base::name_this_thread("ucm-stage-reap");
      delete left;
    }).detach();
  } catch (const std::system_error&) {
    log(LogLevel::warning, "a stage that was left behind stays: no thread to end it");
  }
}

}  // namespace

// A call into the stage. Empty when it has been taken back.
class LentStage::Visit {
 public:
  explicit Visit(const LentStage* lent) : lent_(lent->enter() ? lent : nullptr) {}
  ~Visit() {
    if (lent_) lent_->leave();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  explicit operator bool() const { return lent_ != nullptr; }
  Store* operator->() const { return lent_->stage_.get(); }

 private:
  const LentStage* const lent_;
};

LentStage::LentStage(StorePtr stage) : layout_(stage->layout()), stage_(std::move(stage)) {}

bool LentStage::enter() const {
  if ((inside_.fetch_add(1, std::memory_order_acq_rel) & kOver) == 0) return true;
  leave();
  return false;
}

void LentStage::leave() const {
  if (inside_.fetch_sub(1, std::memory_order_acq_rel) != kOver + 1) return;
  StorePtr last;
  {
    const std::lock_guard lock(mutex_);
    if (left_behind_) last = std::move(stage_);
    left_.notify_all();
  }
  if (last) destroy_elsewhere(std::move(last));
}

void LentStage::take_back() {
  StorePtr mine;
  {
    std::unique_lock lock(mutex_);
    if (inside_.fetch_or(kOver, std::memory_order_acq_rel) & kOver) return;
    const auto empty = [this] { return inside_.load(std::memory_order_acquire) == kOver; };
    left_behind_ = !left_.wait_for(lock, kPatience, empty);
    if (!left_behind_) mine = std::move(stage_);
  }
  if (!mine) log(LogLevel::warning, "a call into a stage does not return; it is left behind");
}

Status LentStage::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  const Visit visit(this);
  return visit ? visit->lookup(keys, present) : gone();
}

Result<size_t> LentStage::lookup_prefix(std::span<const BlockKey> keys) {
  const Visit visit(this);
  return visit ? visit->lookup_prefix(keys) : Result<size_t>(gone());
}

Status LentStage::prefetch(std::span<const BlockKey> keys) {
  const Visit visit(this);
  return visit ? visit->prefetch(keys) : gone();
}

TaskPtr LentStage::load(const Batch& batch) {
  const Visit visit(this);
  return visit ? visit->load(batch) : Task::finished(static_cast<uint32_t>(batch.rows()), gone());
}

TaskPtr LentStage::dump(const Batch& batch) {
  const Visit visit(this);
  return visit ? visit->dump(batch) : Task::finished(static_cast<uint32_t>(batch.rows()), gone());
}

std::optional<uint64_t> LentStage::digest_seed(const BlockKey& key) const {
  const Visit visit(this);
  return visit ? visit->digest_seed(key) : std::nullopt;
}

Status LentStage::remove(std::span<const BlockKey> keys) {
  const Visit visit(this);
  return visit ? visit->remove(keys) : gone();
}

Status LentStage::abandon(std::span<const BlockKey> keys) {
  const Visit visit(this);
  return visit ? visit->abandon(keys) : gone();
}

Status LentStage::renew(std::span<const BlockKey> keys) {
  const Visit visit(this);
  return visit ? visit->renew(keys) : gone();
}

Status LentStage::pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) {
  const Visit visit(this);
  return visit ? visit->pin(keys, pinned) : gone();
}

Status LentStage::unpin(std::span<const BlockKey> keys) {
  const Visit visit(this);
  return visit ? visit->unpin(keys) : gone();
}

void LentStage::close() {
  if (const Visit visit(this); visit) visit->close();
}

}  // namespace ucm
