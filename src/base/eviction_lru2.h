// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction.h"
#include "base/eviction_ghosts.h"
#include "base/eviction_lists.h"

namespace ucm::base {

// LRU-2 (O'Neil et al., SIGMOD 1993): slots used once leave first, oldest first, then the one whose
// last but one use is oldest. Uses in quick succession count as one, and a slot is spared for that
// time. Ghosts keep the time of their last use. Time is cut into epochs, an eighth of the capacity
// in uses, with one list of slots each, so that every call is O(1). 28 bytes a slot and 16 KiB.
class Lru2Policy : public EvictionPolicy {
 public:
  // What the slots are ordered by: `last_use` makes it LRU, which still learns what LRU-2 needs.
  enum class Order : uint32_t { two_uses, last_use };

  Lru2Policy(uint32_t capacity, StateArena& arena);
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

  // Orders all slots anew: a sort of them.
  void reorder(Order order);
  Order order() const { return state_->order; }
  bool known(uint32_t slot) const { return lists_.linked(slot); }
  uint32_t fingerprint(uint32_t slot) const { return fingerprints_[slot]; }

 private:
  static constexpr uint32_t kEpochs = 1024;
  static constexpr uint16_t kOnce = 0;  // the list of slots with one use; epochs have the others
  struct State {
    uint64_t clock;         // uses
    uint64_t oldest;        // no list of an epoch before this one has slots
    uint64_t first_ghosts;  // ghosts of epochs before this one are forgotten
    uint32_t ghosts;
    Order order;
  };
  uint64_t epoch() const { return state_->clock / unit_; }
  // Epochs are kept in two bytes, zero stands for none; what is too long ago is the oldest there
  // is.
  static uint16_t stamp(uint64_t epoch) { return static_cast<uint16_t>(1 + epoch % 0xFFFF); }
  uint64_t epoch_of(uint16_t stamp) const;
  uint64_t last_use(uint32_t slot) const;
  uint16_t list_of(uint64_t epoch) const { return static_cast<uint16_t>(1 + epoch % kEpochs); }
  bool recent(uint32_t slot) const { return state_->clock - last_use(slot) <= window_; }
  uint64_t first_epoch() const { return epoch() < kEpochs ? 0 : epoch() - kEpochs + 1; }
  void tick();
  uint16_t take_ghost(uint32_t fingerprint);
  void forget_ghosts();
  void link(uint32_t slot);
  void leave(uint32_t slot);
  std::optional<uint32_t> evict_from(uint16_t list, const std::function<bool(uint32_t)>& evictable,
                                     bool spare_recent);
  std::optional<uint32_t> evict_oldest(const std::function<bool(uint32_t)>& evictable);

  const uint32_t window_;
  const uint32_t unit_;  // uses in an epoch
  const uint32_t most_ghosts_;
  State* const state_;
  SlotLists lists_;
  uint32_t* const fingerprints_;
  uint32_t* const last_;       // low half of the clock at the last use
  uint16_t* const earlier_;    // stamp of the use before
  uint32_t* const ghosts_of_;  // by epoch of their last use
  GhostTable ghosts_;
};

}  // namespace ucm::base
