// SPDX-License-Identifier: Apache-2.0
#include "pages/reader_store.h"

#include <algorithm>
#include <cerrno>

#include "io/paths.h"

namespace ucm::pages {
namespace {

// How often the names in the folder are looked at: a store can be replaced as a whole.
constexpr int64_t kLookEveryNs = 500'000'000;

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

Result<std::shared_ptr<ReaderStore>> ReaderStore::open(const PageStoreOptions& options) {
  std::shared_ptr<ReaderStore> store(new ReaderStore(options));
  UCM_TRY_ASSIGN(ViewPtr view, store->make_view());
  store->slot_bytes_ = view->format.slot_bytes;
  if (options.slot_bytes != 0 && options.slot_bytes != store->slot_bytes_) {
    return make_status(Code::invalid_argument, "%s has slots of %llu bytes, %llu are wanted",
                       options.path.c_str(), static_cast<unsigned long long>(store->slot_bytes_),
                       static_cast<unsigned long long>(options.slot_bytes));
  }
  store->view_ = std::move(view);
  store->next_look_ns_ = steady_ns() + kLookEveryNs;
  return store;
}

Result<ReaderStore::ViewPtr> ReaderStore::make_view() const {
  const std::string path = io::join(options_.path, kFormatName);
  UCM_TRY_ASSIGN(const std::string text, io::read_small_file(path));
  auto view = std::make_shared<View>();
  auto format = parse_format(text);
  if (!format.ok()) return format.status().with_context(path);
  view->format = format.value();
  UCM_TRY_ASSIGN(view->index, PageIndex::open_readable(options_.path, view->format));
  // The layouts and the index have to be of one opening by the writer.
  UCM_TRY_ASSIGN(const std::string now, io::read_small_file(path));
  if (now != text) {
    return make_status(Code::unavailable, "%s is being opened by its writer", path.c_str());
  }
  // A writer that died while it opened the store may have left another number in FORMAT.json.
  view->format.capacity_slots = view->index->slots();
  view->segments = std::make_unique<Segments>(options_.path, view->format, options_.io_direct,
                                              false, options_.file_mode);
  return ViewPtr(std::move(view));
}

ReaderStore::ViewPtr ReaderStore::view() const {
  ViewPtr current;
  {
    const std::shared_lock lock(view_mutex_);
    current = view_;
  }
  bool look = current && current->index->outdated();
  const int64_t now = steady_ns();
  int64_t due = next_look_ns_.load(std::memory_order_relaxed);
  if (now >= due && next_look_ns_.compare_exchange_strong(due, now + kLookEveryNs)) {
    const auto info = io::path_info(io::join(options_.path, kIndexName));
    look |= !current || !info.ok() || info.value().inode != current->index->inode();
  }
  if (!look) return current;
  auto made = make_view();
  ViewPtr next =
      made.ok() && made.value()->format.slot_bytes == slot_bytes_ ? made.value() : nullptr;
  const std::unique_lock lock(view_mutex_);
  view_ = next;
  return next;
}

void ReaderStore::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) const {
  const ViewPtr current = closed_ ? nullptr : view();
  if (current) {
    current->index->lookup(keys, {options_.layout_id, options_.block_bytes}, present);
  } else {
    std::fill(present.begin(), present.end(), uint8_t{0});
  }
}

void ReaderStore::load(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) {
  const CallPtr call = std::make_shared<RowCall>(RowCall{std::move(done), std::move(task)});
  const ViewPtr current = view();
  std::vector<std::shared_ptr<Read>> reads;
  for (const PageRow& row : rows) {
    Status status = closed_ ? closed_status() : check_row(row, slot_bytes_);
    auto read = std::make_shared<Read>();
    if (status.ok() && (!current || !current->index->find(row.key, &read->entry) ||
                        read->entry.length != row.bytes ||
                        !layouts_fit(read->entry.layout_id, options_.layout_id))) {
      status = make_status(Code::not_found, "block %s is not in %s", row.key.prefix().c_str(),
                           options_.path.c_str());
    }
    if (!status.ok()) {
      call->done(row.row, status);
      continue;
    }
    read->row = row;
    read->call = call;
    read->view = current;
    reads.push_back(std::move(read));
  }
  start(reads);
}

void ReaderStore::start(const std::vector<std::shared_ptr<Read>>& reads) {
  std::vector<io::Request> requests;
  for (const std::shared_ptr<Read>& read : reads) {
    const Status status = read->prepare(read->view->segments.get(), false);
    if (!status.ok()) {
      // A segment that is gone while the entry stands: damage, a miss like any other.
      read->call->done(read->row.row, status);
      continue;
    }
    io::Request request = read->request(false);
    request.done = [self = shared_from_this(), read](const io::Transferred& result) {
      read->result = result;
      self->read_ended(read);
    };
    requests.push_back(std::move(request));
  }
  if (!requests.empty()) engine_.submit(requests);
}

void ReaderStore::read_ended(const std::shared_ptr<Read>& read) {
  if (read->worth_retrying()) {
    read->retried = true;
    start({read});
    return;
  }
  Status status = read->check(options_.verify, read->view->format.seed());
  read->view->segments->forget_cached(read->place, read->row.bytes);
  // The writer may have given the slot to another block meanwhile: whatever the bytes looked like,
  // only an entry that still stands vouches for them.
  IndexEntry now;
  const bool stands = read->view->index->entry(read->entry.slot, &now) && now == read->entry;
  if (!stands && (status.ok() || status.code() == Code::corruption)) {
    status = make_status(Code::not_found, "block %s was replaced while it was read",
                         read->row.key.prefix().c_str());
  } else if (status.code() == Code::corruption) {
    count_drop(read->result.bytes < read->row.bytes ? "truncated" : "checksum");
  }
  read->call->done(read->row.row, status);
}

void ReaderStore::count_drop(const char* cause) {
  {
    const std::lock_guard lock(mutex_);
    ++dropped_[cause];
  }
  if (options_.on_drop) options_.on_drop(cause);
}

void ReaderStore::dump(std::span<const PageRow> rows, PageRowDone done, TaskPtr) {
  const Status status =
      make_status(Code::unsupported, "%s is open for reading only", options_.path.c_str());
  for (const PageRow& row : rows) done(row.row, status);
}

Status ReaderStore::remove(std::span<const BlockKey>) {
  return make_status(Code::unsupported, "%s is open for reading only", options_.path.c_str());
}

uint64_t ReaderStore::digest_seed(const BlockKey& key) const {
  const ViewPtr current = view();
  return current ? payload_seed(key, current->format.seed()) : 0;
}

Status ReaderStore::pin(std::span<const BlockKey>, std::span<uint8_t>) {
  return make_status(Code::unsupported, "pages: %s is open for reading only; its writer pins",
                     options_.path.c_str());
}

Status ReaderStore::unpin(std::span<const BlockKey> keys) { return pin(keys, {}); }

void ReaderStore::touch(std::span<const BlockKey>) {}
void ReaderStore::renew(std::span<const BlockKey>) {}

PageStoreStats ReaderStore::stats() const {
  PageStoreStats stats;
  stats.engine = engine_.name();
  stats.transfers_under_way = engine_.outstanding();
  if (const ViewPtr current = closed_ ? nullptr : view()) {
    stats.capacity_bytes = current->format.capacity_slots * slot_bytes_;
    stats.direct = current->segments->direct();
  }
  const std::lock_guard lock(mutex_);
  stats.dropped = dropped_;
  return stats;
}

bool ReaderStore::close(std::chrono::milliseconds timeout) {
  closed_ = true;
  return engine_.close(timeout);
}

}  // namespace ucm::pages
