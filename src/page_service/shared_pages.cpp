// SPDX-License-Identifier: Apache-2.0
#include "page_service/shared_pages.h"

#include <algorithm>
#include <cctype>
#include <cinttypes>
#include <cstdio>

#include "io/paths.h"
#include "store/stage.h"
#include "ucm/log.h"

namespace ucm::page_service {
namespace {

constexpr std::chrono::seconds kLookEvery{5};
constexpr const char* kScopePrefix = "scope-";
constexpr const char* kNodePrefix = "node-";
constexpr const char* kLockSuffix = ".lock";
constexpr int64_t kThreads = 8;

bool plain_name(const std::string& name) {
  return !name.empty() && name.size() <= 128 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) {
           return std::isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

}  // namespace

SharedPages::SharedPages(const PageServiceOptions& options, BlockLayout layout)
    : options_(options),
      layout_(std::move(layout)),
      metrics_(std::make_shared<base::MetricRegistry>()) {}

Result<std::shared_ptr<SharedPages>> SharedPages::open(const PageServiceOptions& options,
                                                       uint64_t page_bytes, uint64_t scope_id) {
  if (!plain_name(options.node)) {
    return make_status(Code::invalid_argument,
                       "node '%s': letters, digits, '-', '_' and '.' make a name",
                       options.node.c_str());
  }
  if (!options.keep) {
    return make_status(Code::invalid_argument,
                       "pages that are not valid beyond one run of one server can not be shared");
  }
  UCM_TRY_ASSIGN(BlockLayout layout, BlockLayout::make({page_bytes}, 1, scope_id));
  std::shared_ptr<SharedPages> pages(new SharedPages(options, std::move(layout)));
  UCM_TRY(pages->prepare(scope_id));
  return pages;
}

Status SharedPages::prepare(uint64_t scope_id) {
  char scope[40];
  std::snprintf(scope, sizeof scope, "%s%016" PRIx64, kScopePrefix, scope_id);
  folder_ = io::join(options_.path, scope);
  own_root_ = io::join(folder_, kNodePrefix + options_.node);
  if (options_.read_only) return {};
  UCM_TRY(io::make_folders(folder_));
  const std::string lock = io::join(options_.path, kNodePrefix + options_.node + kLockSuffix);
  UCM_TRY_ASSIGN(lock_, io::LockFile::acquire(lock));
  drop_old_scopes();
  UCM_TRY(io::write_small_file(io::join(folder_, "SCOPE"), options_.scope));
  UCM_TRY_ASSIGN(own_, open_stage({own_root_}, false));
  return {};
}

// What this node wrote for another server: nobody else's pages are touched.
void SharedPages::drop_old_scopes() const {
  const auto entries = io::list_folder(options_.path);
  if (!entries.ok()) return;
  for (const io::FolderEntry& entry : entries.value()) {
    const std::string scope = io::join(options_.path, entry.name);
    const std::string root = io::join(scope, kNodePrefix + options_.node);
    if (!entry.name.starts_with(kScopePrefix) || scope == folder_ || !io::exists(root)) continue;
    log(LogLevel::warning, "light_mem: %s is dropped: it belongs to another server", root.c_str());
    const Status gone = io::remove_tree(root);
    if (!gone.ok()) log(LogLevel::warning, "light_mem: %s", gone.to_string().c_str());
  }
}

Result<SharedPages::SharedStore> SharedPages::open_stage(const std::vector<std::string>& roots,
                                                         bool read_only) const {
  const StageEntry* const entry = find_stage("Posix");
  if (!entry) return make_status(Code::unsupported, "this build has no Posix stage");
  Options options;
  options["storage_backends"] = roots;
  options["io_threads"] = kThreads;
  options["io_direct"] = options_.io_direct;
  if (!read_only) options["capacity_bytes"] = static_cast<int64_t>(options_.capacity_bytes);
  StageContext context;
  context.options = &options;
  context.layout = layout_;
  context.read_only = read_only;
  context.metrics = metrics_;
  UCM_TRY_ASSIGN(StorePtr made, entry->make(std::move(context)));
  return SharedStore(std::move(made));
}

SharedPages::SharedStore SharedPages::others() const {
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (now < next_look_) return others_;
  next_look_ = now + kLookEvery;
  std::vector<std::string> roots;
  const auto entries = io::list_folder(folder_);
  if (!entries.ok()) return others_;
  for (const io::FolderEntry& entry : entries.value()) {
    const std::string root = io::join(folder_, entry.name);
    const bool own = root == own_root_ && !options_.read_only;
    if (entry.is_folder && entry.name.starts_with(kNodePrefix) && !own) roots.push_back(root);
  }
  std::sort(roots.begin(), roots.end());
  if (roots == other_roots_) return others_;
  auto opened = roots.empty() ? Result<SharedStore>(SharedStore()) : open_stage(roots, true);
  if (!opened.ok()) {
    log(LogLevel::warning, "light_mem: the pages of other nodes can not be read: %s",
        opened.status().to_string().c_str());
    return others_;
  }
  other_roots_ = std::move(roots);
  // Kept until the end: a transfer may be under way, and no thread of a stage may destroy it.
  if (others_) retired_.push_back(std::move(others_));
  others_ = std::move(opened).value();
  return others_;
}

void SharedPages::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) const {
  std::fill(present.begin(), present.end(), uint8_t{0});
  if (closed_) return;
  if (own_ && !own_->lookup(keys, present).ok()) std::fill(present.begin(), present.end(), 0);
  std::vector<BlockKey> missing;
  std::vector<size_t> places;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (present[i]) continue;
    missing.push_back(keys[i]);
    places.push_back(i);
  }
  const SharedStore others = missing.empty() ? nullptr : this->others();
  std::vector<uint8_t> found(missing.size());
  if (!others || !others->lookup(missing, found).ok()) return;
  for (size_t i = 0; i < places.size(); ++i) present[places[i]] = found[i];
}

void SharedPages::move(const SharedStore& store, Direction direction,
                       const std::vector<PageRow>& rows, const PageRowDone& done) {
  if (rows.empty()) return;
  std::vector<BlockKey> keys;
  std::vector<uintptr_t> addresses;
  for (const PageRow& row : rows) {
    keys.push_back(row.key);
    addresses.push_back(reinterpret_cast<uintptr_t>(row.data));
  }
  Batch batch;
  batch.keys = keys;
  batch.addresses = addresses;
  ++under_way_;
  const TaskPtr task = direction == Direction::load ? store->load(batch) : store->dump(batch);
  task->on_done([this, rows, done](Task& over) {
    const std::vector<uint32_t> failed = over.failed_rows();
    for (uint32_t i = 0; i < rows.size(); ++i) {
      const bool bad = std::binary_search(failed.begin(), failed.end(), i);
      done(rows[i].row, bad ? over.status() : Status());
    }
    --under_way_;
  });
}

void SharedPages::load(std::span<const PageRow> rows, PageRowDone done, TaskPtr) {
  std::vector<BlockKey> keys;
  for (const PageRow& row : rows) keys.push_back(row.key);
  std::vector<uint8_t> mine(rows.size());
  if (own_ && !own_->lookup(keys, mine).ok()) std::fill(mine.begin(), mine.end(), 0);
  const SharedStore others = closed_ ? nullptr : this->others();
  std::vector<PageRow> from_own;
  std::vector<PageRow> from_others;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (mine[i] && !closed_) {
      from_own.push_back(rows[i]);
    } else if (others) {
      from_others.push_back(rows[i]);
    } else {
      done(rows[i].row,
           make_status(Code::not_found, "no node has page %s", rows[i].key.prefix().c_str()));
    }
  }
  move(own_, Direction::load, from_own, done);
  move(others, Direction::load, from_others, done);
}

void SharedPages::dump(std::span<const PageRow> rows, PageRowDone done, TaskPtr) {
  if (own_ && !closed_) {
    move(own_, Direction::dump, {rows.begin(), rows.end()}, done);
    return;
  }
  const Status status =
      closed_ ? make_status(Code::unavailable, "the shared pages are closed") : reading_only();
  for (const PageRow& row : rows) done(row.row, status);
}

Status SharedPages::remove(std::span<const BlockKey> keys) {
  return own_ ? own_->remove(keys) : reading_only();
}

Status SharedPages::pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) {
  return own_ ? own_->pin(keys, pinned) : reading_only();
}

Status SharedPages::unpin(std::span<const BlockKey> keys) {
  return own_ ? own_->unpin(keys) : reading_only();
}

Status SharedPages::reading_only() const {
  return make_status(Code::unsupported, "%s is open for reading only", folder_.c_str());
}

uint64_t SharedPages::digest_seed(const BlockKey& key) const {
  return own_ ? own_->digest_seed(key).value_or(0) : 0;
}

PageStoreStats SharedPages::stats() const {
  PageStoreStats stats;
  stats.capacity_bytes = options_.capacity_bytes;
  stats.engine = "files";
  stats.transfers_under_way = under_way_;
  // Stages of other nodes only read: what is stored and evicted is ours.
  for (const MetricSample& sample : metrics_->samples()) {
    const auto count = static_cast<uint64_t>(std::max(sample.value, 0.0));
    if (sample.name == "ucm_blocks") stats.blocks = count;
    if (sample.name == "ucm_used_bytes") stats.used_bytes = count;
    if (sample.name == "ucm_evicted_blocks_total") stats.evicted = count;
    if (sample.name == "ucm_dropped_blocks_total") {
      for (const auto& [label, cause] : sample.labels) {
        if (label == "cause") stats.dropped[cause] += count;
      }
    }
  }
  return stats;
}

bool SharedPages::close(std::chrono::milliseconds) {
  if (closed_.exchange(true)) return true;
  // Each stage lets go of hanging calls after its own timeout.
  if (own_) own_->close();
  std::vector<SharedStore> others;
  {
    const std::lock_guard lock(mutex_);
    others = retired_;
    if (others_) others.push_back(others_);
  }
  for (const SharedStore& store : others) store->close();
  if (under_way_ == 0) lock_ = io::LockFile();
  return under_way_ == 0;
}

}  // namespace ucm::page_service
