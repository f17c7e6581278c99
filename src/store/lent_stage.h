// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "ucm/store.h"

namespace ucm {

// A stage as those see it whose calls may come after it has gone: callbacks of transfers that a
// hanging storage answers late. They share this object; the owner takes the stage back, and from
// then on every call is answered `unavailable`. Thread-safe.
class LentStage final : public Store {
 public:
  explicit LentStage(StorePtr stage);
  ~LentStage() override { take_back(); }

  // Destroys the stage, on this thread: one of its own could not join itself. Waits a little for
  // calls under way. If one hangs it is left the stage, which goes when the call has returned.
  void take_back();

  const BlockLayout& layout() const override { return layout_; }
  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override;
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override;
  Status prefetch(std::span<const BlockKey> keys) override;
  TaskPtr load(const Batch& batch) override;
  TaskPtr dump(const Batch& batch) override;
  std::optional<uint64_t> digest_seed(const BlockKey& key) const override;
  Status remove(std::span<const BlockKey> keys) override;
  Status abandon(std::span<const BlockKey> keys) override;
  Status renew(std::span<const BlockKey> keys) override;
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override;
  Status unpin(std::span<const BlockKey> keys) override;
  void close() override;

 private:
  // Nobody enters any more; the other bits count those inside.
  static constexpr uint64_t kOver = uint64_t{1} << 63;
  class Visit;

  bool enter() const;
  void leave() const;

  const BlockLayout layout_;
  mutable StorePtr stage_;
  mutable std::atomic<uint64_t> inside_{0};
  mutable std::mutex mutex_;
  mutable std::condition_variable left_;
  bool left_behind_ = false;
};

}  // namespace ucm
