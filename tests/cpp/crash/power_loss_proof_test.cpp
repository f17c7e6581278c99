// SPDX-License-Identifier: Apache-2.0
// Threads dump, load, remove and evict on one store while every change is recorded; then the power
// is lost at random moments and the store is opened on what the disk would hold.
#include <atomic>
#include <thread>

#include "crash_fixture.h"

namespace ucm::test {
namespace {

constexpr uint64_t kLossUniverse = 48;
constexpr uint64_t kPointsPerRun = 25;

struct Proof {
  const char* stage;
  const char* durability;
  bool use_io_uring;
  bool crowded;  // more blocks than the store holds, and removals
  bool packed = false;
};

class PowerLossProof : public CrashTest, public ::testing::WithParamInterface<Proof> {
 protected:
  Options options() const {
    const Proof& proof = GetParam();
    const int64_t slots = proof.crowded ? 20 : 400;
    // A file of the Posix stage takes a page more than its block.
    const int64_t block = std::string_view(proof.stage) == "posix" ? 3 * 4096 : 2 * 4096;
    Options options = {{"capacity_bytes", slots * block},
                       {"durability", proof.durability},
                       {"io_threads", int64_t{3}},
                       {"timeout_s", 15.0}};
    if (std::string_view(proof.stage) == "disk") {
      options["use_io_uring"] = proof.use_io_uring;
      options["segment_bytes"] = 8 * block;
    } else {
      options["pack_bytes"] = int64_t{proof.packed ? 65536 : 0};
    }
    return options;
  }

  // Which change each block was done at, the last time; 0: never.
  using DoneAt = std::vector<std::atomic<uint64_t>>;

  void dump_some(Store& store, uint64_t seed, WriteRecording& recording, DoneAt* done_at) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < 24; ++i) {
      const uint64_t first = random() % kLossUniverse;
      const auto keys = make_keys(first, std::min(kLossUniverse - first, 1 + random() % 3));
      if (!dump_blocks(store, keys).ok()) continue;
      const uint64_t now = recording.changes();
      for (size_t k = 0; k < keys.size(); ++k) (*done_at)[first + k] = now;
    }
  }

  // Works on a fresh store with four threads; answers how many changes were recorded.
  uint64_t work(WriteRecording& recording, const std::string& folder, DoneAt* done_at) {
    const StorePtr store = open(GetParam().stage, options(), folder);
    if (!store) return 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&, seed = random_()] { dump_some(*store, seed, recording, done_at); });
    }
    threads.emplace_back([&, seed = random_()] {
      std::mt19937_64 random(seed);
      for (int i = 0; i < 16; ++i) {
        static_cast<void>(load_survivors(*store, make_keys(random() % kLossUniverse, 4)));
      }
    });
    if (GetParam().crowded) {
      threads.emplace_back([&, seed = random_()] {
        std::mt19937_64 random(seed);
        for (int i = 0; i < 12; ++i) {
          EXPECT_TRUE(store->remove(make_keys(random() % kLossUniverse, 2)).ok());
          std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    store->close();
    return recording.changes();
  }

  // What a block that was done at `done` must be after `loss`.
  bool must_survive(const PowerLoss& loss, uint64_t done, uint64_t end) const {
    if (GetParam().crowded || done == 0 || done > loss.point) return false;
    const std::string_view durability = GetParam().durability;
    if (loss.process_only || durability == "strict") return true;
    // A page store that was closed has flushed its group; Posix flushes contents, not names.
    return durability == "group" && loss.point == end &&
           GetParam().stage == std::string_view("disk");
  }

  void lose_power(WriteRecording& recording, const DoneAt& done_at, uint64_t end) {
    PowerLoss loss;
    loss.point = below(8) == 0 ? end : below(end + 1);
    loss.seed = random_();
    loss.process_only = below(5) == 0;
    const ::testing::ScopedTrace trace(__FILE__, __LINE__,
                                       "lost after " + std::to_string(loss.point) + " of " +
                                           std::to_string(end) + " changes, seed " +
                                           std::to_string(loss.seed) +
                                           (loss.process_only ? ", process only" : ""));
    const std::string folder = scratch("after");
    ASSERT_TRUE(recording.rebuild(loss, folder).ok());
    const StorePtr store = open(GetParam().stage, options(), folder + "/store");
    if (store) {
      const auto right = check_survivors(*store, make_keys(0, kLossUniverse), !GetParam().crowded);
      std::string lost;
      for (uint64_t i = 0; i < kLossUniverse; ++i) {
        if (right[i] || !must_survive(loss, done_at[i], end)) continue;
        lost += " " + std::to_string(i) + "@" + std::to_string(done_at[i]);
      }
      EXPECT_EQ(lost, "") << "blocks that were done, and at which change";
      store->close();
    }
    wipe(folder);
  }
};

TEST_P(PowerLossProof, every_block_is_right_or_a_miss_wherever_the_power_is_lost) {
  const uint64_t wanted = from_environment("UCM_CRASH_POINTS", kPointsPerRun);
  for (uint64_t points = 0; points < wanted && !HasFailure(); points += kPointsPerRun) {
    const std::string folder = scratch("disk");
    std::filesystem::create_directories(folder);
    auto recording = WriteRecording::start(folder);
    ASSERT_TRUE(recording.ok()) << recording.status().to_string();
    DoneAt done_at(kLossUniverse);
    const uint64_t end = work(*recording.value(), folder + "/store", &done_at);
    ASSERT_GT(end, 50u);
    for (uint64_t i = 0; i < kPointsPerRun && !HasFailure(); ++i) {
      lose_power(*recording.value(), done_at, end);
    }
    recording.value().reset();
    wipe(folder);
  }
}

std::string name_of(const ::testing::TestParamInfo<Proof>& info) {
  const Proof& proof = info.param;
  return std::string(proof.stage) + "_" + proof.durability +
         (proof.use_io_uring ? "_uring" : "_threads") + (proof.crowded ? "_crowded" : "_roomy") +
         (proof.packed ? "_packed" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Stages, PowerLossProof,
    ::testing::Values(Proof{"disk", "none", true, true}, Proof{"disk", "none", false, false},
                      Proof{"disk", "group", true, false}, Proof{"disk", "strict", true, false},
                      Proof{"disk", "strict", false, true}, Proof{"posix", "none", false, true},
                      Proof{"posix", "none", false, false}, Proof{"posix", "group", false, false},
                      Proof{"posix", "strict", false, false}, Proof{"posix", "strict", false, true},
                      Proof{"posix", "none", false, true, true},
                      Proof{"posix", "strict", false, false, true}),
    name_of);

}  // namespace
}  // namespace ucm::test
