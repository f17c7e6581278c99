// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/slot_table.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "processes.h"
#include "test_blocks.h"

namespace ucm::stages::cache {
namespace {

using test::Child;
using test::make_key;

constexpr uint32_t kSlots = 24;
constexpr uint32_t kShards = 3;
constexpr uint64_t kWreaked = 60;  // keys that processes which are killed work with

class SharedTableTest : public ::testing::Test {
 protected:
  std::unique_ptr<SlotTable> join(std::string_view policy = "auto") {
    auto memory = join_shared_pool({name_}, layout_, pool_options(), policy);
    EXPECT_TRUE(memory.ok()) << memory.status().to_string();
    auto table = std::make_unique<SlotTable>(std::move(memory).value(), SlotTable::Keeping{});
    table->set_rest(std::chrono::milliseconds(0));
    return table;
  }

  // A member that works under the lock and is killed there, or right behind it.
  void work_and_die(bool inside, const std::function<void(SlotTable*)>& work) {
    Child child([&] {
      const auto theirs = join();
      theirs->lock();
      work(theirs.get());
      if (!inside) theirs->unlock();
      ::raise(SIGKILL);
      return 0;
    });
    EXPECT_EQ(child.wait(), -1 - SIGKILL);
  }

  PoolOptions pool_options() const {
    PoolOptions options;
    options.slots = kSlots;
    options.slot_bytes = layout_.slot_bytes();
    return options;
  }

  const BlockLayout layout_ = BlockLayout::make({100, 200}, kShards, 9).value();
  const std::string name_ = "table-" + std::to_string(::getpid());
};

// The lock of a table for a scope.
class Locked {
 public:
  explicit Locked(SlotTable* table) : table_(table) { table_->lock(); }
  ~Locked() { table_->unlock(); }

 private:
  SlotTable* const table_;
};

uint32_t add_ready(SlotTable* table, const BlockKey& key) {
  const uint32_t slot = table->acquire(key, SlotState::gathering);
  if (slot == SlotTable::kNone) return slot;
  for (uint32_t shard = 0; shard < kShards; ++shard) {
    EXPECT_EQ(table->claim(slot, shard), ShardState::missing);
    EXPECT_EQ(table->set_copied(slot, shard), shard + 1 == kShards);
  }
  table->make_ready(slot);
  return slot;
}

// Every slot can be had when nobody keeps any: none is lost.
void expect_whole(SlotTable* table, uint64_t first_key) {
  const Locked lock(table);
  table->reap();
  // Whose shards others may still bring: they are given back after a while.
  while (table->reclaim_abandoned(std::chrono::milliseconds(0))) {
  }
  for (uint64_t i = 0; i < kWreaked; ++i) {
    const uint32_t slot = table->find(make_key(i));
    if (slot != SlotTable::kNone) table->let_go(slot);
  }
  EXPECT_EQ(table->kept(), 0u);
  for (uint32_t i = 0; i < kSlots; ++i) {
    const uint32_t slot = add_ready(table, make_key(first_key + i));
    ASSERT_NE(slot, SlotTable::kNone) << "after " << i << " of " << kSlots << " slots";
  }
  EXPECT_EQ(table->used(), kSlots);
  EXPECT_EQ(table->ready_blocks(), kSlots);
  // Which of them stay is the policy's affair.
  for (uint64_t i = 0; i < kWreaked; ++i) table->forget(make_key(i));
  for (uint32_t i = 0; i < kSlots; ++i) table->forget(make_key(first_key + i));
  EXPECT_EQ(table->used(), 0u);
}

TEST_F(SharedTableTest, what_one_process_makes_ready_another_finds) {
  const auto mine = join();
  Child child([&] {
    const auto theirs = join();
    const Locked lock(theirs.get());
    add_ready(theirs.get(), make_key(1));
    theirs->acquire(make_key(2), SlotState::gathering);
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  const Locked lock(mine.get());
  std::vector<uint8_t> present(3);
  mine->find_ready(test::make_keys(1, 3), present);
  EXPECT_EQ(present, (std::vector<uint8_t>{1, 0, 0}));
}

TEST_F(SharedTableTest, a_pin_of_another_process_keeps_a_block_and_goes_with_the_process) {
  const auto mine = join();
  test::SharedValue<std::atomic<int>> step;
  Child child([&] {
    const auto theirs = join();
    {
      const Locked lock(theirs.get());
      theirs->pin(add_ready(theirs.get(), make_key(1)));
    }
    *step = 1;
    ::pause();
    return 0;
  });
  while (*step != 1) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  {
    const Locked lock(mine.get());
    for (uint64_t i = 0; i < 3 * kSlots; ++i) add_ready(mine.get(), make_key(100 + i));
    EXPECT_NE(mine->find(make_key(1)), SlotTable::kNone);
  }
  EXPECT_TRUE(child.kill());
  const Locked lock(mine.get());
  EXPECT_TRUE(mine->reap());
  EXPECT_FALSE(mine->reap());
  for (uint64_t i = 0; i < 3 * kSlots; ++i) add_ready(mine.get(), make_key(200 + i));
  EXPECT_EQ(mine->find(make_key(1)), SlotTable::kNone);
}

TEST_F(SharedTableTest, what_one_process_keeps_is_no_victim_of_another_until_anybody_lets_it_go) {
  const auto mine = join();
  work_and_die(true, [](SlotTable* theirs) {
    for (uint32_t i = 0; i < kSlots; ++i) {
      const uint32_t slot = add_ready(theirs, make_key(i));
      if (theirs->keep(slot) != (i < kSlots / 2)) std::_Exit(1);
    }
  });
  const Locked lock(mine.get());
  EXPECT_EQ(mine->repairs(), 1u);
  EXPECT_EQ(mine->kept(), kSlots / 2);
  for (uint64_t i = 0; i < 3 * kSlots; ++i) add_ready(mine.get(), make_key(100 + i));
  for (uint64_t i = 0; i < kSlots; ++i) {
    EXPECT_EQ(mine->find(make_key(i)) != SlotTable::kNone, i < kSlots / 2) << i;
  }
  mine->forget(make_key(0));
  mine->let_go(mine->find(make_key(1)));
  EXPECT_EQ(mine->kept(), kSlots / 2 - 2);
  for (uint64_t i = 0; i < 3 * kSlots; ++i) add_ready(mine.get(), make_key(200 + i));
  EXPECT_EQ(mine->find(make_key(1)), SlotTable::kNone);
  EXPECT_NE(mine->find(make_key(2)), SlotTable::kNone);
}

TEST_F(SharedTableTest, a_slot_that_a_dead_member_was_filling_rests_and_then_serves_again) {
  const auto mine = join();
  work_and_die(false, [](SlotTable* theirs) {
    theirs->pin(theirs->acquire(make_key(1), SlotState::fetching));
  });
  mine->set_rest(std::chrono::milliseconds(200));
  {
    const Locked lock(mine.get());
    EXPECT_TRUE(mine->reap());
    EXPECT_EQ(mine->find(make_key(1)), SlotTable::kNone);
    for (uint32_t i = 0; i + 1 < kSlots; ++i) mine->pin(add_ready(mine.get(), make_key(10 + i)));
    EXPECT_EQ(mine->acquire(make_key(2), SlotState::fetching), SlotTable::kNone);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  const Locked lock(mine.get());
  EXPECT_NE(mine->acquire(make_key(2), SlotState::fetching), SlotTable::kNone);
}

TEST_F(SharedTableTest, a_block_whose_shards_were_staged_is_completed_by_another_process) {
  const auto mine = join();
  Child child([&] {
    const auto theirs = join();
    const Locked lock(theirs.get());
    const uint32_t slot = theirs->acquire(make_key(1), SlotState::gathering);
    theirs->claim(slot, 0);
    theirs->set_copied(slot, 0);
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  const Locked lock(mine.get());
  mine->reap();
  const uint32_t slot = mine->find(make_key(1));
  ASSERT_NE(slot, SlotTable::kNone);
  EXPECT_EQ(mine->claim(slot, 0), ShardState::copied);
  EXPECT_EQ(mine->claim(slot, 1), ShardState::missing);
  EXPECT_EQ(mine->claim(slot, 1), ShardState::copying);
  EXPECT_FALSE(mine->set_copied(slot, 1));
  EXPECT_EQ(mine->claim(slot, 2), ShardState::missing);
  EXPECT_TRUE(mine->set_copied(slot, 2));
}

TEST_F(SharedTableTest, a_shard_that_a_killed_process_was_copying_is_copied_by_another) {
  const auto mine = join();
  for (const bool inside : {true, false}) {
    work_and_die(inside, [](SlotTable* theirs) {
      const uint32_t slot = theirs->acquire(make_key(1), SlotState::gathering);
      theirs->pin(slot);
      theirs->claim(slot, 0);
      theirs->set_copied(slot, 0);
      theirs->claim(slot, 1);
    });
    const Locked lock(mine.get());
    mine->reap();
    const uint32_t slot = mine->find(make_key(1));
    ASSERT_NE(slot, SlotTable::kNone);
    EXPECT_EQ(mine->claim(slot, 0), ShardState::copied);
    EXPECT_EQ(mine->claim(slot, 1), ShardState::missing);
    mine->forget(make_key(1));
    mine->drop(slot);
  }
}

class SharedPolicyTest : public SharedTableTest,
                         public ::testing::WithParamInterface<std::string_view> {
 protected:
  std::unique_ptr<SlotTable> own() const {
    auto memory = make_own_pool(layout_, pool_options(), GetParam());
    EXPECT_TRUE(memory.ok()) << memory.status().to_string();
    return std::make_unique<SlotTable>(std::move(memory).value(), SlotTable::Keeping{});
  }
};

// A use of a block by a member: whether it was there.
bool use(SlotTable* table, const BlockKey& key) {
  const Locked lock(table);
  const uint32_t slot = table->find(key);
  if (slot == SlotTable::kNone) {
    add_ready(table, key);
    return false;
  }
  table->touch(slot);
  return true;
}

TEST_P(SharedPolicyTest, members_in_turn_hit_what_one_process_alone_would) {
  const auto alone = own();
  const std::vector<std::unique_ptr<SlotTable>> members = [&] {
    std::vector<std::unique_ptr<SlotTable>> joined;
    // Whoever comes later takes the policy that is there.
    for (const std::string_view policy : {GetParam(), GetParam(), std::string_view("lru")}) {
      joined.push_back(join(policy));
    }
    return joined;
  }();
  std::mt19937_64 random(5);
  int hits = 0;
  for (int i = 0; i < 20000; ++i) {
    const BlockKey key = make_key(std::min(random() % 100, random() % 100));
    const bool hit = use(alone.get(), key);
    ASSERT_EQ(use(members[i % members.size()].get(), key), hit) << "use " << i;
    hits += hit;
  }
  EXPECT_GT(hits, 0);
  for (const auto& member : members) EXPECT_EQ(member->policy_name(), GetParam());
}

TEST_P(SharedPolicyTest, blocks_and_their_order_outlive_a_member_that_dies_inside_the_lock) {
  const auto mine = join(GetParam());
  {
    const Locked lock(mine.get());
    for (uint32_t i = 0; i < kSlots; ++i) add_ready(mine.get(), make_key(i));
    // Those of high numbers first: the order is no longer that of the slots.
    for (uint32_t i = kSlots; i-- > 0;) mine->renew(mine->find(make_key(i)));
  }
  work_and_die(true, [](SlotTable*) {});
  const Locked lock(mine.get());
  EXPECT_EQ(mine->repairs(), 1u);
  EXPECT_EQ(mine->ready_blocks(), kSlots);
  for (uint32_t i = kSlots; i-- > 0;) {
    add_ready(mine.get(), make_key(1000 + i));
    EXPECT_EQ(mine->find(make_key(i)), SlotTable::kNone) << "the oldest of those left";
    EXPECT_EQ(mine->ready_blocks(), kSlots);
  }
}

TEST_F(SharedTableTest, a_block_that_was_complete_when_its_process_died_can_be_stored_again) {
  const auto mine = join();
  for (const bool inside : {true, false}) {
    work_and_die(inside, [](SlotTable* theirs) {
      const uint32_t slot = theirs->acquire(make_key(1), SlotState::gathering);
      theirs->pin(slot);
      for (uint32_t shard = 0; shard < kShards; ++shard) {
        theirs->claim(slot, shard);
        theirs->set_copied(slot, shard);
      }
    });
    const Locked lock(mine.get());
    mine->reap();
    EXPECT_EQ(mine->find(make_key(1)), SlotTable::kNone) << "it would never become ready";
    EXPECT_NE(add_ready(mine.get(), make_key(1)), SlotTable::kNone);
    mine->forget(make_key(1));
  }
}

TEST_F(SharedTableTest, a_pool_whose_header_does_not_fit_its_memory_is_refused) {
  const auto mine = join();
  const auto paths = find_shared_pools(name_).value();
  ASSERT_EQ(paths.size(), 1u);
  const std::string& path = paths[0];
  const SlotDirectory::Shape shape{kSlots, kShards, 0};
  const size_t index_bytes = SlotDirectory::bytes(shape);
  using Change = std::function<void(DirectoryHeader*)>;
  const std::vector<std::pair<const char*, Change>> changes = {
      {"slots without memory", [](DirectoryHeader*) {}},
      {"another version", [](DirectoryHeader* header) { ++header->version; }},
      {"no policy", [](DirectoryHeader* header) { header->policy = 99; }},
      {"the policy of another build", [](DirectoryHeader* header) { ++header->order_bytes; }},
      {"too many slots", [](DirectoryHeader* header) { header->slots = 0xFFFFFFFF; }},
      {"too many shards", [](DirectoryHeader* header) { header->shards = 0xFFFFFFFF; }},
  };
  for (const auto& [what, change] : changes) {
    ASSERT_EQ(::unlink(path.c_str()), 0) << what;
    const auto foreign = memory::SharedSegment::join(path, index_bytes, [&](std::byte* data) {
      SlotDirectory(data, shape).format(layout_.slot_bytes(), layout_.id());
      change(reinterpret_cast<DirectoryHeader*>(data));
    });
    ASSERT_TRUE(foreign.ok()) << what;
    const auto joined = join_shared_pool({name_}, layout_, pool_options(), "auto");
    EXPECT_EQ(joined.status().code(), Code::unsupported) << what;
    std::ofstream(path).close();  // it stays when `foreign` goes
  }
  ASSERT_EQ(::unlink(path.c_str()), 0);
}

// Everything a flow does to a table, at random, for ever; most of the time inside the lock.
int wreak(SlotTable* table, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint32_t> pinned;
  while (true) {
    const Locked lock(table);
    for (int i = 0; i < 8; ++i) {
      const BlockKey key = make_key(random() % kWreaked);
      uint32_t slot = table->find(key);
      if (slot == SlotTable::kNone) {
        const bool fetch = random() % 2 == 0;
        slot = table->acquire(key, fetch ? SlotState::fetching : SlotState::gathering);
        if (slot == SlotTable::kNone) continue;
        table->pin(slot);
        if (!fetch && table->claim(slot, 0) == ShardState::missing) table->set_copied(slot, 0);
        if (random() % 4 != 0) table->make_ready(slot);
        pinned.push_back(slot);
      } else if (random() % 4 == 0) {
        table->forget(key);
      } else if (table->ready(slot)) {
        table->touch(slot);
        if (random() % 4 == 0) {
          table->keep(slot);
        } else if (random() % 4 == 0) {
          table->let_go(slot);
        }
        if (random() % 2 == 0) {
          table->pin(slot);
          pinned.push_back(slot);
        }
      }
      while (pinned.size() > 3) {
        if (!table->ready(pinned.front())) table->drop(pinned.front());
        table->unpin(pinned.front());
        pinned.erase(pinned.begin());
      }
    }
    table->reap();
  }
}

TEST_P(SharedPolicyTest, kill_9_at_any_instruction_loses_no_slot_and_leaves_no_lock) {
  const auto mine = join(GetParam());
  std::mt19937_64 random(11);
  const int rounds = test::kills(40);
  for (int round = 0; round < rounds; ++round) {
    test::SharedValue<std::atomic<int>> ready;
    std::vector<Child> children;
    for (int i = 0; i < 2; ++i) {
      children.emplace_back([&] {
        const auto theirs = join();
        ++*ready;
        return wreak(theirs.get(), static_cast<uint64_t>(round * 2 + i));
      });
    }
    while (*ready != 2) std::this_thread::sleep_for(std::chrono::microseconds(200));
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1500));
    // The first one dies while the second is at work beside it.
    for (Child& child : children) ASSERT_TRUE(child.kill());
    expect_whole(mine.get(), 1000 + static_cast<uint64_t>(round) * kSlots);
    ASSERT_FALSE(HasFatalFailure()) << "round " << round;
  }
  EXPECT_GT(mine->repairs(), 0u) << "no kill fell inside the lock";
}

INSTANTIATE_TEST_SUITE_P(Shared, SharedPolicyTest,
                         ::testing::Values("auto", "lru", "arc", "lru2", "s3fifo"),
                         [](const auto& each) { return std::string(each.param); });

}  // namespace
}  // namespace ucm::stages::cache
