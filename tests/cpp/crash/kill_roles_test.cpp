// SPDX-License-Identifier: Apache-2.0
// A writer, a reader and a scheduler as processes of their own, killed with SIGKILL at any moment.
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <functional>
#include <thread>

#include "crash_fixture.h"
#include "processes.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

constexpr uint64_t kUniverse = 64;

// What the processes tell each other, in shared memory.
struct Board {
  std::array<std::atomic<uint8_t>, kUniverse> done;  // blocks that were done
  std::array<std::atomic<uint64_t>, 3> rounds;       // of each role
  std::atomic<uint64_t> wrong;                       // answers that must never be
  std::atomic<uint64_t> lost;
};

struct KillCase {
  const char* spec;
  bool crowded;
};

class KillRolesTest : public CrashTest, public ::testing::WithParamInterface<KillCase> {
 protected:
  enum Role : size_t { kWriter, kReader, kScheduler };

  void SetUp() override {
    CrashTest::SetUp();
    void* memory =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(memory, MAP_FAILED);
    board_ = new (memory) Board{};
  }
  void TearDown() override {
    for (const pid_t child : children_) kill_child(child);
    ::munmap(board_, sizeof(Board));
    CrashTest::TearDown();
  }

  PipelineConfig config(Role role) const {
    PipelineConfig config;
    config.spec = GetParam().spec;
    const int64_t capacity = GetParam().crowded ? 24 : 400;
    config.options = {{"storage_backends", scratch("store")},  {"buffer_number", int64_t{8}},
                      {"capacity_bytes", capacity * 3 * 4096}, {"prefault", false},
                      {"segment_bytes", int64_t{16 * 4096}},   {"timeout_s", 15.0}};
    if (role != kScheduler) config.layout = BlockLayout::make({kBlockBytes}, 1, 7).value();
    config.read_only = role != kWriter;
    return config;
  }

  // A killed writer's lock goes with the process, so the next one gets the store at once.
  std::unique_ptr<Pipeline> open_or_die(Role role) const {
    auto store = Pipeline::open(config(role));
    if (!store.ok()) ::_exit(10);
    return std::move(store).value();
  }

  [[noreturn]] void write_for_ever(std::mt19937_64 random) {
    const auto store = open_or_die(kWriter);
    for (;; ++board_->rounds[kWriter]) {
      const uint64_t first = random() % kUniverse;
      const auto keys = make_keys(first, std::min(kUniverse - first, 1 + random() % 4));
      if (GetParam().crowded && random() % 8 == 0) {
        if (!store->remove(keys).ok()) ::_exit(11);
      } else if (!dump_blocks(*store, keys).ok()) {
        ::_exit(12);
      } else {
        for (size_t i = 0; i < keys.size(); ++i) board_->done[first + i] = 1;
      }
    }
  }

  [[noreturn]] void read_for_ever(std::mt19937_64 random) {
    const auto store = open_or_die(kReader);
    for (;; ++board_->rounds[kReader]) {
      const uint64_t number = random() % kUniverse;
      const auto wrong = load_blocks(*store, {make_key(number)});
      if (wrong.ok() && wrong.value() != 0) ++board_->wrong;
      if (!wrong.ok() && wrong.status().code() != Code::not_found) ++board_->lost;
    }
  }

  [[noreturn]] void schedule_for_ever(std::mt19937_64 random) {
    const auto store = open_or_die(kScheduler);
    for (;; ++board_->rounds[kScheduler]) {
      const uint64_t first = random() % kUniverse;
      const auto keys = make_keys(first, kUniverse - first);
      // A lookup may be older than a dump elsewhere, but the prefix never reaches behind its hole.
      const auto count = store->lookup_prefix(keys);
      if (!count.ok() || count.value() > keys.size()) ++board_->wrong;
    }
  }

  void start(Role role) {
    const uint64_t seed = random_();
    const uint64_t before = board_->rounds[role];
    children_[role] = test::fork_child();
    ASSERT_GE(children_[role], 0);
    if (children_[role] == 0) {
      if (role == kWriter) write_for_ever(std::mt19937_64(seed));
      if (role == kReader) read_for_ever(std::mt19937_64(seed));
      schedule_for_ever(std::mt19937_64(seed));
    }
    // At work before it is killed, most times.
    if (below(8) == 0) return;
    for (int i = 0; i < 20000 && board_->rounds[role] == before; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      int status = 0;
      ASSERT_EQ(::waitpid(children_[role], &status, WNOHANG), 0)
          << "role " << role << " ended by itself: " << WEXITSTATUS(status);
    }
    ASSERT_GT(board_->rounds[role], before) << "role " << role << " does not work";
  }

  static int kill_child(pid_t child) {
    if (child <= 0) return 0;
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    return status;
  }

  void kill_role(Role role) {
    const int status = kill_child(children_[role]);
    children_[role] = 0;
    ASSERT_TRUE(WIFSIGNALED(status)) << "role " << role << " ended by itself: " << status;
  }

  // With nobody else at work: what was done and could not be evicted is there, the rest is right.
  void check_all() {
    const auto store = Pipeline::open(config(kWriter));
    ASSERT_TRUE(store.ok()) << store.status().to_string();
    for (uint64_t i = 0; i < kUniverse; ++i) {
      const auto wrong = load_blocks(*store.value(), {make_key(i)});
      EXPECT_EQ(wrong.ok() ? wrong.value() : 0, 0u) << "block " << i;
      if (!GetParam().crowded && board_->done[i]) {
        EXPECT_TRUE(wrong.ok()) << "block " << i << ": " << wrong.status().to_string();
      }
    }
  }

  Board* board_ = nullptr;
  std::array<pid_t, 3> children_ = {};
};

TEST_P(KillRolesTest, no_kill_of_any_role_loses_a_block_or_shows_a_wrong_one) {
  const uint64_t kills = from_environment("UCM_KILLS", 12);
  for (const Role role : {kWriter, kReader, kScheduler}) start(role);
  for (uint64_t i = 0; i < kills && !HasFatalFailure(); ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(below(15000)));
    const Role victim = below(2) == 0 ? kWriter : (below(2) == 0 ? kReader : kScheduler);
    kill_role(victim);
    if (HasFatalFailure()) break;
    start(victim);
  }
  for (const Role role : {kReader, kWriter, kScheduler}) kill_role(role);
  EXPECT_EQ(board_->wrong, 0u);
  check_all();
}

INSTANTIATE_TEST_SUITE_P(Pipelines, KillRolesTest,
                         ::testing::Values(KillCase{"Cache|Disk", false},
                                           KillCase{"Cache|Disk", true},
                                           KillCase{"Cache|Posix", false},
                                           KillCase{"Cache|Posix", true}),
                         [](const auto& info) {
                           std::string name = info.param.spec;
                           name.replace(name.find('|'), 1, "_");
                           return name + (info.param.crowded ? "_crowded" : "_roomy");
                         });

}  // namespace
}  // namespace ucm::test
