// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_blocks.h"

#include <algorithm>
#include <thread>

#include "stages/posix/posix_calls.h"

namespace ucm::posix {
namespace {

// verify = sample checks one payload in so many.
constexpr uint32_t kSampleOneIn = 64;
// First reads past the page cache that are remembered, in 3 bytes each.
constexpr uint32_t kFirstReads = 1 << 16;
constexpr int64_t kUseNoteNs = 60'000'000'000;
constexpr std::chrono::milliseconds kFirstPause{20};
constexpr std::chrono::milliseconds kLongestPause{1000};

// Errors that may go away by themselves: a flaky path to a server or a stale handle.
bool worth_retrying(const Status& status) {
  return status.code() == Code::io_error || status.code() == Code::timeout;
}

const Status& status_of(const Status& status) { return status; }
Status status_of(const Result<bool>& result) { return result.status(); }

Status not_stored(const BlockKey& key) {
  return make_status(Code::not_found, "posix: block %s is not stored", key.prefix().c_str());
}

}  // namespace

BlockSet::BlockSet(const PosixOptions& options, const BlockLayout& layout, bool read_only,
                   std::shared_ptr<StageMetrics> metrics)
    : options_(options),
      layout_(layout),
      read_only_(read_only),
      metrics_(std::move(metrics)),
      books_(metrics_),
      presence_(options.lookup_ttl_s),
      first_reads_(kFirstReads) {}

Result<std::shared_ptr<BlockSet>> BlockSet::open(const PosixOptions& options,
                                                 const BlockLayout& layout, bool read_only,
                                                 std::shared_ptr<StageMetrics> metrics) {
  std::shared_ptr<BlockSet> set(new BlockSet(options, layout, read_only, std::move(metrics)));
  for (const std::string& path : options.roots) {
    UCM_TRY_ASSIGN(auto root, BlockRoot::open(path, options, read_only));
    root->on_cleared(
        [books = &set->books_](const io::PathInfo& file) { books->went(share_of(file)); });
    set->roots_.push_back(std::move(root));
  }
  return set;
}

template <typename Call>
auto BlockSet::retry(Clock::time_point deadline, Call call) -> decltype(call()) {
  auto outcome = call();
  auto pause = kFirstPause;
  for (uint32_t attempt = 0; attempt < options_.retry_count; ++attempt) {
    if (!worth_retrying(status_of(outcome)) || Clock::now() + pause >= deadline) break;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kLongestPause);
    outcome = call();
  }
  return outcome;
}

bool BlockSet::check_payload() {
  switch (options_.verify) {
    case Verify::never:
      return false;
    case Verify::sample:
      return reads_.fetch_add(1, std::memory_order_relaxed) % kSampleOneIn == 0;
    default:
      return true;
  }
}

bool BlockSet::first_read(const BlockKey& key) {
  const std::lock_guard lock(first_reads_mutex_);
  return !first_reads_.admit(mix(key));
}

bool BlockSet::right_size(uint64_t bytes) const {
  if (!layout_.empty()) {
    return bytes == file_bytes(layout_.block_bytes()) || is_pack_size(bytes, layout_);
  }
  return bytes >= file_bytes(1) && bytes % kAlign == 0;
}

bool BlockSet::known(std::span<const BlockKey> keys, std::span<uint8_t> present) const {
  if (options_.lookup_ttl_s == 0) return false;
  for (size_t i = 0; i < keys.size(); ++i) {
    const PresenceTable::Answer answer = presence_.find(keys[i]);
    if (answer == PresenceTable::Answer::unknown) return false;
    present[i] = answer == PresenceTable::Answer::present ? 1 : 0;
  }
  return true;
}

Result<uint8_t> BlockSet::has(const BlockKey& key) {
  const PresenceTable::Answer known = presence_.find(key);
  if (known != PresenceTable::Answer::unknown) {
    return static_cast<uint8_t>(known == PresenceTable::Answer::present);
  }
  Status failure;
  size_t failed = 0;
  for (size_t step = 0; step < roots_.size(); ++step) {
    const auto bytes = root(home(key), step).size_of(key);
    if (bytes.ok() && right_size(bytes.value())) {
      presence_.note(key, true);
      return uint8_t{1};
    }
    if (bytes.ok() || bytes.status().code() == Code::not_found) continue;
    failure = bytes.status();
    metrics_->failed(failure);
    ++failed;
  }
  if (failed == roots_.size()) return failure;
  // What a failing root may hold is not known to be absent.
  if (failed == 0) presence_.note(key, false);
  return uint8_t{0};
}

Status BlockSet::judge(const BlockKey& key, const BlockRoot& root, const BlockReport& report) {
  switch (report.finding) {
    case Finding::sound:
      return {};
    case Finding::absent:
      return not_stored(key);
    case Finding::other_layout:
      presence_.refuse(key);
      metrics_->dropped(report.cause);
      return make_status(Code::not_found,
                         "posix: block %s in %s is written for another layout, it is not used",
                         key.prefix().c_str(), root.path().c_str());
    case Finding::damaged:
      break;
  }
  metrics_->dropped(report.cause);
  if (!read_only_) books_.went(share_of(report.info));
  return make_status(Code::not_found, "posix: block %s in %s is damaged (%s), it is not used",
                     key.prefix().c_str(), root.path().c_str(), report.cause);
}

Status BlockSet::read_once(const BlockKey& key, std::byte* buffer, BlockReport* report) {
  Status failure;
  Status miss = not_stored(key);
  bool refused = false;
  for (size_t step = 0; step < roots_.size(); ++step) {
    BlockRoot& place = root(home(key), step);
    auto found = place.read(key, layout_, check_payload(), buffer, [&] { return first_read(key); });
    if (!found.ok()) {
      failure = found.status();
      continue;
    }
    *report = std::move(found).value();
    Status status = judge(key, place, *report);
    if (status.ok()) {
      if (refused) presence_.note(key, true);
      return status;
    }
    refused = refused || report->finding == Finding::other_layout;
    if (report->finding != Finding::absent) miss = std::move(status);
  }
  return failure.ok() ? miss : failure;
}

Status BlockSet::read(const BlockKey& key, std::byte* buffer, Clock::time_point deadline,
                      BlockReport* report) {
  Status status = retry(deadline, [&] { return read_once(key, buffer, report); });
  // A refusal says more than an absence and is kept.
  if (status.code() == Code::not_found && report->finding != Finding::other_layout) {
    presence_.note(key, false);
  }
  return status;
}

bool BlockSet::read_cached(const BlockKey& key, std::byte* memory, BlockReport* report) {
  for (size_t step = 0; step < roots_.size(); ++step) {
    if (!root(home(key), step).read_cached(key, layout_, memory, report)) continue;
    const Digest* digest = check_payload() ? &report->trailer.digest : nullptr;
    // What is wrong is found once more, and told, by the read that follows.
    if (judge_payload(memory, layout_.block_bytes(), digest) != nullptr) return false;
    presence_.note(key, true);
    return true;
  }
  return false;
}

Status BlockSet::find_stored(const BlockKey& key) {
  for (size_t step = 0; step < roots_.size(); ++step) {
    BlockRoot& place = root(home(key), step);
    const auto found = place.examine(key, layout_);
    // Whether a root that fails has the block does not matter: writing it again is safe.
    if (!found.ok()) continue;
    // It makes room for the one that is dumped, when that is there.
    if (found.value().finding == Finding::other_layout) continue;
    if (!judge(key, place, found.value()).ok()) continue;
    const Status settled = place.settle_found(key);
    if (settled.code() != Code::not_found) return settled;
  }
  return not_stored(key);
}

Result<bool> BlockSet::write_once(const BlockKey& key, const BlockImage& image, int64_t modified_ns,
                                  const std::function<bool()>& wanted, size_t first) {
  Status failure;
  const BlockBooks::Change change(&books_);
  for (size_t step = 0; step < roots_.size(); ++step) {
    const auto ours = root(first, step).write(key, layout_, image, modified_ns, wanted);
    if (ours.ok()) {
      if (ours.value()) books_.came(image.bytes());
      presence_.note(key, true);
      return ours;
    }
    if (failure.ok()) failure = ours.status();
    const Code code = ours.status().code();
    if (code == Code::cancelled || code == Code::unsupported) break;
  }
  return failure;
}

Result<bool> BlockSet::write(const BlockKey& key, const BlockImage& image, int64_t modified_ns,
                             Clock::time_point deadline, const std::function<bool()>& wanted) {
  const size_t first = options_.path_strategy == PathStrategy::hash
                           ? home(key)
                           : next_root_.fetch_add(1, std::memory_order_relaxed) % roots_.size();
  return retry(deadline, [&] { return write_once(key, image, modified_ns, wanted, first); });
}

bool BlockSet::packs() const {
  return layout_.block_bytes() <= options_.pack_bytes &&
         std::all_of(roots_.begin(), roots_.end(), [](const auto& root) { return root->packs(); });
}

std::vector<Result<bool>> BlockSet::write_pack(const PackImage& image, int64_t modified_ns,
                                               const std::function<bool(size_t)>& wanted) {
  const std::vector<PackedBlock>& blocks = image.blocks();
  const size_t first = options_.path_strategy == PathStrategy::hash
                           ? home(blocks.front().key)
                           : next_root_.fetch_add(1, std::memory_order_relaxed) % roots_.size();
  const BlockBooks::Change change(&books_);
  auto answers = roots_[first]->write_pack(layout_, image, modified_ns, wanted);
  for (size_t i = 0; i < answers.size(); ++i) {
    if (!answers[i].ok()) continue;
    if (answers[i].value()) books_.came(image.bytes() / blocks.size());
    presence_.note(blocks[i].key, true);
  }
  return answers;
}

bool BlockSet::shares_file(const BlockReport& report, const BlockKey& key) const {
  // "<folder>/3f/3fa9..." -> "<folder>".
  const std::string& path = report.file.path();
  const std::string folder = path.substr(0, path.size() - block_path("", key).size());
  const auto info = io::path_info(block_path(folder, key));
  return info.ok() && info.value().inode == report.info.inode;
}

bool BlockSet::read_packed(const BlockReport& report, size_t first, size_t count,
                           std::byte* buffer) const {
  const size_t slot = layout_.slot_bytes();
  const auto got = io::read_at(report.file, first * slot, buffer, count * slot);
  return got.ok() && got.value() == count * slot;
}

bool BlockSet::sound_packed(const BlockReport& report, size_t number, const std::byte* payload) {
  const Digest* digest = check_payload() ? &report.pack->blocks[number].digest : nullptr;
  return judge_payload(payload, layout_.block_bytes(), digest) == nullptr;
}

Status BlockSet::remove(const BlockKey& key) {
  Status failure;
  const BlockBooks::Change change(&books_);
  for (const auto& place : roots_) {
    const auto freed = place->remove(key);
    if (!freed.ok()) {
      failure = freed.status();
    } else if (freed.value() > 0) {
      books_.went(freed.value());
    }
  }
  if (failure.ok()) {
    presence_.note(key, false);
  } else {
    presence_.forget(key);
  }
  return failure;
}

Result<uint8_t> BlockSet::mark_pinned(const BlockKey& key, bool pinned) {
  bool marked = false;
  for (const auto& place : roots_) {
    if (!pinned) {
      UCM_TRY(place->unpin(key));
    } else if (!marked) {
      UCM_TRY_ASSIGN(marked, place->pin(key));
    }
  }
  return static_cast<uint8_t>(marked);
}

bool BlockSet::notes_use(const BlockReport& report, int64_t unix_ns) const {
  if (read_only_ || !options_.collects() || !report.file) return false;
  return unix_ns - report.info.modified_ns >= kUseNoteNs;
}

void BlockSet::note_use(const BlockReport& report, int64_t unix_ns) const {
  if (notes_use(report, unix_ns)) set_modified(report.file, unix_ns);
}

}  // namespace ucm::posix
