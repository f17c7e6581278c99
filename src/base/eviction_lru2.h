// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/eviction.h"
#include "base/eviction_fingerprints.h"
#include "base/eviction_ghosts.h"
#include "base/eviction_lists.h"

namespace ucm::base {

// LRU-2 (O'Neil et al., SIGMOD 1993): slots used once leave first, oldest first, then the one whose
// last but one use is oldest. Uses in quick succession count as one, and a slot is spared for that
// time. Ghosts keep the time of their last use. Time is cut into epochs, an eighth of the capacity
// in uses, with one list of slots each. 18 bytes a slot and 16 KiB, and the fingerprints.
class Lru2Policy : public EvictionPolicy {
 public:
  // What the slots are ordered by: `last_use` makes it LRU, which still learns what LRU-2 needs.
  enum class Order : uint32_t { two_uses, last_use };

  Lru2Policy(uint32_t capacity, StateArena& arena, FingerprintOf owner = {});
  void insert(uint32_t slot, uint64_t fingerprint) override;
  void touch(uint32_t slot) override;
  void renew(uint32_t slot) override;
  void erase(uint32_t slot) override;
  std::optional<uint32_t> evict(const std::function<bool(uint32_t)>& evictable) override;

  // What decides from now on. Slots that are ordered otherwise follow as they are used or leave,
  // and a few with every call: no call pays for all of them.
  void follow(Order order) { state_->order = order; }
  Order order() const { return state_->order; }
  bool known(uint32_t slot) const { return place_of(slot) != kNowhere; }
  uint32_t fingerprint(uint32_t slot) const { return fingerprints_.at(slot); }
  // How often a slot was put into a list.
  uint64_t moves() const { return state_->moves; }

 private:
  static constexpr uint32_t kEpochs = 1024;
  // Where a slot is: the low bits of its mark. Slots used once, slots by their last use (an LRU
  // list), slots by the epoch of their last but one use.
  static constexpr uint16_t kNowhere = 0;
  static constexpr uint16_t kOnce = 1;
  static constexpr uint16_t kByUse = 2;
  static constexpr uint16_t kByEpoch = 3;
  static constexpr uint16_t kOnceList = 0;
  static constexpr uint16_t kByUseList = 1;
  static constexpr uint16_t kFirstEpochList = 2;
  struct State {
    uint64_t clock;         // uses
    uint64_t oldest;        // no list of an epoch before this one has slots
    uint64_t first_ghosts;  // ghosts of epochs before this one are forgotten
    uint64_t moves;
    uint32_t ghosts;
    uint32_t hand;  // the slot whose times are looked after next
    Order order;
  };
  uint64_t epoch() const { return state_->clock / unit_; }
  uint64_t first_epoch() const { return epoch() < kEpochs ? 0 : epoch() - kEpochs + 1; }
  uint64_t epoch_of(uint16_t stamp) const;
  uint64_t last_use(uint32_t slot) const;
  bool recent(uint32_t slot) const { return state_->clock - last_use(slot) <= window_; }
  uint32_t older(uint32_t a, uint32_t b) const;

  uint16_t place_of(uint32_t slot) const { return marks_[slot] & 3; }
  uint16_t earlier(uint32_t slot) const { return marks_[slot] >> 2; }
  void set_used(uint32_t slot);
  void set_earlier(uint32_t slot, uint16_t stamp);
  uint16_t list_of(uint64_t epoch) const {
    return static_cast<uint16_t>(kFirstEpochList + epoch % kEpochs);
  }
  uint16_t list_with(uint32_t slot) const;
  void link(uint32_t slot, uint16_t place, bool newest);
  void unlink(uint32_t slot);
  // Where the slot belongs by its uses, whatever the order is.
  uint16_t by_uses(uint32_t slot) const { return earlier(slot) == 0 ? kOnce : kByEpoch; }
  void regroup(uint32_t slot);

  void tick();
  void look_after(uint32_t slot);
  uint16_t take_ghost(uint32_t fingerprint);
  void forget_ghosts();
  void leave(uint32_t slot);
  uint32_t first(uint16_t list, const std::function<bool(uint32_t)>& evictable) const;
  uint32_t first_by_epoch(const std::function<bool(uint32_t)>& evictable);
  uint32_t victim_by_two_uses(const std::function<bool(uint32_t)>& evictable);

  const uint32_t capacity_;
  const uint32_t window_;
  const uint32_t unit_;     // uses in an epoch
  const uint32_t quantum_;  // uses that last_ does not tell apart
  const uint32_t most_ghosts_;
  State* const state_;
  SlotLists lists_;
  SlotFingerprints fingerprints_;
  uint16_t* const last_;       // the last use in quanta, low half
  uint16_t* const marks_;      // place, and above it the stamp of the use before
  uint32_t* const ghosts_of_;  // by epoch of their last use
  GhostTable ghosts_;
};

}  // namespace ucm::base
