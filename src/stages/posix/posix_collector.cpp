// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_collector.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <vector>

#include "io/paths.h"
#include "stages/posix/posix_root.h"
#include "stages/posix/posix_walk.h"
#include "ucm/log.h"

namespace ucm::posix {
namespace {

constexpr int64_t kTemporaryLifeNs = 3'600'000'000'000;
// How soon writes of other processes are noticed, and how soon a lease held elsewhere is tried.
constexpr std::chrono::seconds kPeriod{60};
constexpr std::chrono::seconds kIdlePeriod{3600};
constexpr std::chrono::seconds kLeaseRetry{2};
constexpr uint32_t kRenewEvery = 256;  // files
// A disturbed count is made again soon, and the last of so many is believed.
constexpr uint32_t kCounts = 3;
constexpr std::chrono::seconds kRecount{2};

struct Candidate {
  BlockKey key;
  int64_t modified_ns = 0;
  uint64_t bytes = 0;
  bool pinned = false;
};

struct RootUsage {
  std::vector<Candidate> blocks;
  uint64_t bytes = 0;
};

// Pins beyond the limit have no effect: those used longest ago. `blocks` are oldest first.
void release_pins(uint64_t limit, RootUsage* usage) {
  uint64_t bytes = 0;
  for (auto block = usage->blocks.rbegin(); block != usage->blocks.rend(); ++block) {
    if (!block->pinned) continue;
    block->pinned = bytes + block->bytes <= limit;
    bytes += block->pinned ? block->bytes : 0;
  }
}

}  // namespace

// Shared with the thread, which may be left behind in a hung system call.
struct Collector::State {
  PosixOptions options;
  std::shared_ptr<StageMetrics> metrics;
  std::shared_ptr<BlockSet> blocks;
  uint64_t wake_bytes = 0;
  std::atomic<uint64_t> fresh_bytes{0};
  std::atomic<bool> closed{false};
  std::mutex mutex;
  std::condition_variable changed;
  uint32_t steps = 0;      // of the pass, to renew the lease now and then
  uint32_t disturbed = 0;  // counts in a row under which files came or went

  bool collects() const { return options.capacity_bytes > 0; }
  bool due() const { return collects() && fresh_bytes.load() >= wake_bytes; }
  // Whether the pass may go on.
  bool step(CollectorLease* lease) {
    if (closed.load()) return false;
    return ++steps % kRenewEvery != 0 || lease->renew();
  }
  Result<bool> measure(const std::string& root, CollectorLease* lease, RootUsage* usage);
  Result<bool> evict(const std::string& root, CollectorLease* lease, RootUsage* usage);
  // False: the lease is held elsewhere.
  Result<bool> pass();
};

Result<bool> Collector::State::measure(const std::string& root, CollectorLease* lease,
                                       RootUsage* usage) {
  WalkHooks hooks;
  hooks.on_block = [&](const BlockKey& key, const std::string& path) {
    const auto info = io::path_info(path);
    if (info.ok()) {
      const bool pinned = (info.value().mode & kPinnedMode) != 0;
      usage->blocks.push_back({key, info.value().modified_ns, info.value().bytes, pinned});
      usage->bytes += info.value().bytes;
    }
    return step(lease);
  };
  hooks.on_temporary = [&](const std::string& path) {
    const auto info = io::path_info(path);
    if (info.ok() && lease->server_now_ns() - info.value().modified_ns > kTemporaryLifeNs) {
      (void)io::unlink_file(path);
    }
    return step(lease);
  };
  return walk_root(root, hooks);
}

Result<bool> Collector::State::evict(const std::string& root, CollectorLease* lease,
                                     RootUsage* usage) {
  const auto capacity = static_cast<double>(options.capacity_bytes);
  if (!collects() || static_cast<double>(usage->bytes) <= capacity * options.eviction_high) {
    return true;
  }
  const auto goal = static_cast<uint64_t>(capacity * options.eviction_low);
  std::sort(usage->blocks.begin(), usage->blocks.end(),
            [](const Candidate& a, const Candidate& b) { return a.modified_ns < b.modified_ns; });
  release_pins(static_cast<uint64_t>(capacity * options.pin_limit), usage);
  // Pinned blocks last, and those do not leave.
  const auto pinned = std::stable_partition(usage->blocks.begin(), usage->blocks.end(),
                                            [](const Candidate& each) { return !each.pinned; });
  const auto candidates = static_cast<size_t>(pinned - usage->blocks.begin());
  size_t left = 0;
  for (; left < candidates && usage->bytes > goal; ++left) {
    if (!step(lease)) return false;
    const Candidate& block = usage->blocks[left];
    const Status status = io::unlink_file(block_path(root, block.key));
    if (!status.ok() && status.code() != Code::not_found) return status;
    blocks->note_evicted(block.key);
    blocks->books().went(block.bytes);
    usage->bytes -= block.bytes;
    if (status.ok()) metrics->evicted().add();
  }
  return true;
}

Result<bool> Collector::State::pass() {
  // The lease lies in the first root that works, which is the same one for all processes.
  std::unique_ptr<CollectorLease> held;
  Result<bool> ours = false;
  for (const std::string& root : options.roots) {
    held = std::make_unique<CollectorLease>(root);
    ours = held->acquire(options.file_mode);
    if (ours.ok()) break;
  }
  if (!ours.ok() || !ours.value()) return ours;
  CollectorLease& lease = *held;
  fresh_bytes.store(0);
  const uint64_t since = blocks->books().begin_count();
  std::vector<RootUsage> usages(options.roots.size());
  uint64_t count = 0;
  uint64_t bytes = 0;
  // One root that fails does not keep the others from being collected.
  Status failure;
  for (size_t i = 0; i < usages.size(); ++i) {
    const auto complete = measure(options.roots[i], &lease, &usages[i]);
    if (complete.ok() && !complete.value()) return true;
    if (!complete.ok()) {
      failure = complete.status();
      usages[i] = {};
    }
    count += usages[i].blocks.size();
    bytes += usages[i].bytes;
  }
  if (failure.ok()) {
    const bool settled = blocks->books().settle(since, count, bytes, disturbed + 1 == kCounts);
    disturbed = settled ? 0 : disturbed + 1;
  }
  for (size_t i = 0; i < usages.size(); ++i) {
    const auto complete = evict(options.roots[i], &lease, &usages[i]);
    if (complete.ok() && !complete.value()) return true;
    if (!complete.ok()) failure = complete.status();
  }
  UCM_TRY(failure);
  return true;
}

void Collector::run(const std::shared_ptr<State>& state) {
  std::unique_lock lock(state->mutex);
  while (!state->closed.load()) {
    lock.unlock();
    Result<bool> ended = false;
    try {
      ended = state->pass();
    } catch (const std::bad_alloc&) {
      ended = make_status(Code::out_of_memory, "no memory for the list of blocks");
    }
    if (!ended.ok()) {
      log(LogLevel::warning, "posix: collection: %s", ended.status().to_string().c_str());
    }
    const std::chrono::seconds pause = ended.ok() && !ended.value() ? kLeaseRetry
                                       : state->disturbed > 0       ? kRecount
                                       : state->collects()          ? kPeriod
                                                                    : kIdlePeriod;
    lock.lock();
    // After a pass that could not be made, new bytes do not start the next one at once.
    const bool wakeable = ended.ok() && ended.value();
    state->changed.wait_for(lock, pause,
                            [&] { return state->closed.load() || (wakeable && state->due()); });
  }
}

Collector::Collector(const PosixOptions& options, std::shared_ptr<BlockSet> blocks,
                     std::shared_ptr<StageMetrics> metrics)
    : state_(std::make_shared<State>()), crew_("ucm-posix-gc", 1) {
  state_->options = options;
  state_->metrics = std::move(metrics);
  state_->blocks = std::move(blocks);
  const double band = options.eviction_high - options.eviction_low;
  state_->wake_bytes = std::max<uint64_t>(
      1, static_cast<uint64_t>(static_cast<double>(options.capacity_bytes) * band / 4));
  const std::shared_ptr<State> state = state_;
  crew_.submit(base::Lane::normal, [state] { run(state); });
}

void Collector::wrote(uint64_t bytes) {
  if (!state_->collects()) return;
  const uint64_t before = state_->fresh_bytes.fetch_add(bytes);
  if (before < state_->wake_bytes && before + bytes >= state_->wake_bytes) {
    const std::lock_guard lock(state_->mutex);
    state_->changed.notify_all();
  }
}

void Collector::out_of_space() { wrote(state_->wake_bytes); }

void Collector::close() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closed.store(true);
    state_->changed.notify_all();
  }
  crew_.close(std::chrono::milliseconds(500));
}

}  // namespace ucm::posix
