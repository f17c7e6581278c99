// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_collector.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <numeric>
#include <vector>

#include "io/paths.h"
#include "stages/posix/posix_root.h"
#include "stages/posix/posix_usage.h"
#include "ucm/log.h"

namespace ucm::posix {
namespace {

// Of temporary files, and of pins whose block has gone.
constexpr int64_t kLeftoverLifeNs = 3'600'000'000'000;
// How soon writes of other processes are noticed, and how soon a lease held elsewhere is tried.
constexpr std::chrono::seconds kPeriod{60};
constexpr std::chrono::seconds kIdlePeriod{3600};
constexpr std::chrono::seconds kLeaseRetry{2};
constexpr uint32_t kRenewEvery = 256;  // files
// A disturbed count is made again soon, and the last of so many is believed.
constexpr uint32_t kCounts = 3;
constexpr std::chrono::seconds kRecount{2};

// After a pass that could not help a write, the next one of its kind waits.
constexpr std::chrono::seconds kHopelessPause{1};
// Never reached by what is written.
constexpr uint64_t kNever = Quotas::kNoLimit / 2;

struct ShareTotal {
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  uint64_t pinned = 0;
};

uint64_t total_limit(uint64_t bytes, size_t roots) {
  return bytes > Quotas::kNoLimit / roots ? Quotas::kNoLimit : bytes * roots;
}

}  // namespace

// Shared with the thread, which may be left behind in a hung system call.
struct Collector::State {
  State(const PosixOptions& posix_options, std::shared_ptr<BlockSet> block_set,
        std::shared_ptr<StageMetrics> stage_metrics);

  const PosixOptions options;
  const std::shared_ptr<BlockSet> blocks;
  const std::shared_ptr<StageMetrics> metrics;
  std::vector<NamespaceMetrics> namespaces;  // empty without quotas
  const size_t own_share;
  QuotaRoom room;  // of our share in all roots
  uint64_t wake_bytes = 0;
  std::atomic<uint64_t> fresh_bytes{0};
  std::atomic<uint64_t> wanted_bytes{0};  // of a write that found no room in our share
  std::atomic<bool> closed{false};
  std::mutex mutex;
  std::condition_variable changed;
  // Of the thread.
  uint32_t steps = 0;      // of the pass, to renew the lease now and then
  uint64_t evictions = 0;  // of the pass
  uint64_t evicted_bytes = 0;
  uint32_t disturbed = 0;     // passes in a row under which files came or went
  uint64_t pass_wanted = 0;   // what `wanted_bytes` was at its begin
  std::vector<uint64_t> own;  // bytes of our share in each root, as last seen

  bool due() const { return options.collects() && fresh_bytes.load() >= wake_bytes; }
  bool has_quotas() const { return !namespaces.empty(); }
  UsageWalk walk(CollectorLease* lease);
  // What our own share holds, without a lease: until it is known, nothing is written.
  void count_own();
  void end_count();
  uint64_t goal(size_t share, uint64_t used) const;
  Result<bool> evict(size_t share, CollectorLease* lease, RootUsage* usage);
  // One root; adds what is left to `totals`.
  Result<bool> collect(size_t root, CollectorLease* lease, std::vector<ShareTotal>* totals);
  void publish(const std::vector<ShareTotal>& totals, uint64_t since);
  // False: the lease is held elsewhere.
  Result<bool> pass();
};

Collector::State::State(const PosixOptions& posix_options, std::shared_ptr<BlockSet> block_set,
                        std::shared_ptr<StageMetrics> stage_metrics)
    : options(posix_options),
      blocks(std::move(block_set)),
      metrics(std::move(stage_metrics)),
      own_share(options.quotas.share_of(options.own_namespace)),
      room(options.quotas.empty() ? Quotas::kNoLimit : options.own_bytes()),
      own(options.roots.size()) {
  const uint64_t limit = options.quotas.bytes(own_share);
  const double band = options.eviction_high - options.eviction_low;
  wake_bytes =
      limit == Quotas::kNoLimit
          ? kNever
          : std::max<uint64_t>(1, static_cast<uint64_t>(static_cast<double>(limit) * band / 4));
  if (options.quotas.empty()) return;
  for (size_t share = 0; share < options.quotas.shares(); ++share) {
    namespaces.push_back(metrics->of_namespace(options.quotas.name(share)));
    const uint64_t bytes = total_limit(options.quotas.bytes(share), options.roots.size());
    // 0 stands for no limit, as in the configuration.
    const bool limited = bytes != Quotas::kNoLimit;
    namespaces.back().quota_bytes.set(limited ? static_cast<int64_t>(bytes) : 0);
  }
}

UsageWalk Collector::State::walk(CollectorLease* lease) {
  UsageWalk walk;
  walk.quotas = &options.quotas;
  walk.step = [this, lease] {
    if (closed.load()) return false;
    return lease == nullptr || ++steps % kRenewEvery != 0 || lease->renew();
  };
  if (lease != nullptr) walk.reap_before_ns = lease->server_now_ns() - kLeftoverLifeNs;
  return walk;
}

void Collector::State::count_own() {
  room.begin_count();
  UsageWalk own_walk = walk(nullptr);
  own_walk.only_share = own_share;
  for (size_t root = 0; root < options.roots.size(); ++root) {
    RootUsage usage;
    // A root that fails now is counted by a later pass.
    const auto complete = measure_root(options.roots[root], own_walk, &usage);
    if (complete.ok() && !complete.value()) return;
    if (complete.ok()) own[root] = usage.shares[own_share].bytes;
  }
  end_count();
}

void Collector::State::end_count() {
  room.end_count(std::accumulate(own.begin(), own.end(), uint64_t{0}));
}

// How much of a share may stay.
uint64_t Collector::State::goal(size_t share, uint64_t used) const {
  const uint64_t limit = options.quotas.bytes(share);
  if (limit == Quotas::kNoLimit) return used;
  const uint64_t wanted = share == own_share ? std::min(pass_wanted, limit) : 0;
  const auto size = static_cast<double>(limit);
  if (wanted == 0 && static_cast<double>(used) <= size * options.eviction_high) return used;
  return std::min(static_cast<uint64_t>(size * options.eviction_low), limit - wanted);
}

Result<bool> Collector::State::evict(size_t share, CollectorLease* lease, RootUsage* usage) {
  ShareUsage& held = usage->shares[share];
  const uint64_t most = goal(share, held.bytes);
  if (held.bytes <= most) return true;
  const auto limit = static_cast<double>(options.quotas.bytes(share));
  const size_t candidates = held.order_victims(static_cast<uint64_t>(limit * options.pin_limit));
  const UsageWalk steps_of = walk(lease);
  for (size_t i = 0; i < candidates && held.bytes > most; ++i) {
    if (!steps_of.step()) return false;
    StoredBlock& block = held.blocks[i];
    const std::string& folder = usage->folders[block.folder];
    // Somebody may have pinned it since it was measured.
    block.pinned = !block.marked && io::exists(pin_path(folder, block.key));
    if (block.pinned) continue;
    const Status status = io::unlink_file(block_path(folder, block.key));
    if (!status.ok() && status.code() != Code::not_found) return status;
    if (block.marked) (void)io::unlink_file(pin_path(folder, block.key));
    blocks->note_evicted(block.key);
    const uint64_t before = held.bytes;
    held.drop(&block);
    evicted_bytes += before - held.bytes;
    if (!status.ok()) continue;
    ++evictions;
    metrics->evicted().add();
    if (has_quotas()) namespaces[share].evicted.add();
  }
  std::erase_if(held.blocks, [](const StoredBlock& block) { return block.gone; });
  return true;
}

Result<bool> Collector::State::collect(size_t root, CollectorLease* lease,
                                       std::vector<ShareTotal>* totals) {
  RootUsage usage;
  UCM_TRY_ASSIGN(bool complete, measure_root(options.roots[root], walk(lease), &usage));
  for (size_t share = 0; complete && share < usage.shares.size(); ++share) {
    UCM_TRY_ASSIGN(complete, evict(share, lease, &usage));
    const ShareUsage& left = usage.shares[share];
    if (share == own_share) own[root] = left.bytes;
    (*totals)[share].blocks += left.blocks.size();
    (*totals)[share].bytes += left.bytes;
    (*totals)[share].pinned += left.pinned();
  }
  return complete;
}

void Collector::State::publish(const std::vector<ShareTotal>& totals, uint64_t since) {
  ShareTotal all;
  for (size_t share = 0; share < totals.size(); ++share) {
    const ShareTotal& one = totals[share];
    all.blocks += one.blocks;
    all.bytes += one.bytes;
    all.pinned += one.pinned;
    if (!has_quotas()) continue;
    namespaces[share].blocks.set(static_cast<int64_t>(one.blocks));
    namespaces[share].used_bytes.set(static_cast<int64_t>(one.bytes));
  }
  if (blocks->books().settle(since, all.blocks, all.bytes, disturbed + 1 == kCounts)) {
    disturbed = 0;
  } else {
    ++disturbed;
    blocks->books().evicted(evictions, evicted_bytes);
  }
  metrics->pinned_blocks().set(static_cast<int64_t>(all.pinned));
}

Result<bool> Collector::State::pass() {
  // The lease lies in the first root that works, which is the same one for all processes.
  std::unique_ptr<CollectorLease> lease;
  Result<bool> ours = false;
  for (const std::string& root : options.roots) {
    lease = std::make_unique<CollectorLease>(root);
    ours = lease->acquire(options.file_mode);
    if (ours.ok()) break;
  }
  if (!ours.ok() || !ours.value()) return ours;
  fresh_bytes.store(0);
  const uint64_t since = blocks->books().begin_count();
  evictions = 0;
  evicted_bytes = 0;
  pass_wanted = wanted_bytes.exchange(0);
  room.begin_count();
  std::vector<ShareTotal> totals(options.quotas.shares());
  Status failure;
  for (size_t root = 0; root < options.roots.size(); ++root) {
    const auto complete = collect(root, lease.get(), &totals);
    if (complete.ok() && !complete.value()) return true;
    // One root that fails does not keep the others from being collected.
    if (!complete.ok()) failure = complete.status();
  }
  if (!failure.ok()) {
    blocks->books().evicted(evictions, evicted_bytes);
    return failure;
  }
  end_count();
  publish(totals, since);
  return true;
}

void Collector::run(const std::shared_ptr<State>& state) {
  if (state->has_quotas()) state->count_own();
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
                                       : state->options.collects()  ? kPeriod
                                                                    : kIdlePeriod;
    lock.lock();
    // After a pass that could not be made, new bytes do not start the next one at once.
    const bool wakeable = ended.ok() && ended.value();
    if (wakeable && state->pass_wanted > 0 && state->evictions == 0) {
      state->changed.wait_for(lock, kHopelessPause, [&] { return state->closed.load(); });
    }
    state->changed.wait_for(lock, pause,
                            [&] { return state->closed.load() || (wakeable && state->due()); });
  }
}

Collector::Collector(const PosixOptions& options, std::shared_ptr<BlockSet> blocks,
                     std::shared_ptr<StageMetrics> metrics)
    : state_(std::make_shared<State>(options, std::move(blocks), std::move(metrics))),
      crew_("ucm-posix-gc", 1) {
  const std::shared_ptr<State> state = state_;
  runs_ = crew_.submit(base::Lane::normal, [state] { run(state); });
}

QuotaRoom* Collector::room() { return &state_->room; }

void Collector::wrote(uint64_t bytes) {
  if (!state_->options.collects()) return;
  const uint64_t before = state_->fresh_bytes.fetch_add(bytes);
  if (before < state_->wake_bytes && before + bytes >= state_->wake_bytes) {
    const std::lock_guard lock(state_->mutex);
    state_->changed.notify_all();
  }
}

void Collector::no_room(uint64_t bytes) {
  uint64_t wanted = state_->wanted_bytes.load();
  while (wanted < bytes && !state_->wanted_bytes.compare_exchange_weak(wanted, bytes)) {
  }
  wrote(state_->wake_bytes);
}

void Collector::out_of_space() { wrote(state_->wake_bytes); }

void Collector::close() {
  state_->room.close();
  {
    const std::lock_guard lock(state_->mutex);
    state_->closed.store(true);
    state_->changed.notify_all();
  }
  crew_.close(std::chrono::milliseconds(500));
}

}  // namespace ucm::posix
