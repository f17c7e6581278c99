// SPDX-License-Identifier: Apache-2.0
#include "pages/writer_store.h"

#include <algorithm>

#include "io/paths.h"
#include "ucm/layout.h"
#include "ucm/log.h"

namespace ucm::pages {
namespace {

// Bytes the segments take now, and what is free beside them.
Result<uint64_t> room_for(const std::string& path, uint64_t* own) {
  *own = 0;
  UCM_TRY_ASSIGN(const auto entries, io::list_folder(path));
  for (const io::FolderEntry& entry : entries) {
    if (!entry.name.starts_with(kSegmentPrefix)) continue;
    const auto info = io::path_info(io::join(path, entry.name));
    if (info.ok()) *own += info.value().allocated_bytes;
  }
  UCM_TRY_ASSIGN(const io::SpaceInfo space, io::space_of(path));
  return space.free_bytes + *own;
}

Result<uint64_t> capacity_slots(const PageStoreOptions& options) {
  uint64_t bytes = options.capacity_bytes;
  if (bytes == 0) {
    uint64_t own = 0;
    UCM_TRY_ASSIGN(const uint64_t room, room_for(options.path, &own));
    // A disk that others have filled must not shrink what is stored already.
    bytes = std::max(room / 10 * 9, own);
  }
  const uint64_t slots = std::min(bytes / options.slot_bytes, kMaxSlots);
  if (slots > 0) return slots;
  return make_status(options.capacity_bytes == 0 ? Code::no_space : Code::invalid_argument,
                     "%s: a capacity of %llu bytes holds no block of %llu bytes; %s",
                     options.path.c_str(), static_cast<unsigned long long>(bytes),
                     static_cast<unsigned long long>(options.slot_bytes),
                     options.capacity_bytes == 0 ? "free some space or choose another path"
                                                 : "raise capacity_bytes");
}

StoreFormat fresh_format(const PageStoreOptions& options) {
  StoreFormat format;
  format.uuid = make_uuid();
  format.slot_bytes = options.slot_bytes;
  format.segment_slots =
      std::clamp<uint64_t>(options.segment_bytes / options.slot_bytes, 1, kMaxSlots);
  return format;
}

// A store of an older version: its entries can not be read, its files are used again.
Result<StoreFormat> made_afresh(const PageStoreOptions& options) {
  log(LogLevel::warning, "pages: %s has an older format than %llu; it is made afresh, empty",
      options.path.c_str(), static_cast<unsigned long long>(kFormatVersion));
  for (const char* name : {kIndexName, kTableName}) {
    const Status gone = io::unlink_file(io::join(options.path, name));
    if (!gone.ok() && gone.code() != Code::not_found) return gone;
  }
  return fresh_format(options);
}

// Whether the list has changed: a store that has seen too many layouts begins anew.
bool list_layout(uint64_t layout_id, StoreFormat* format) {
  if (layout_number(format->layouts, layout_id) != kNoLayout) return false;
  if (format->layouts.size() >= kMostLayouts) {
    format->layouts.clear();
    format->uuid = make_uuid();
  }
  format->layouts.push_back(layout_id);
  return true;
}

// What FORMAT.json says, or a fresh description where there is none or a damaged one.
Result<StoreFormat> current_format(const PageStoreOptions& options) {
  const std::string path = io::join(options.path, kFormatName);
  const auto text = io::read_small_file(path);
  if (!text.ok() && text.status().code() == Code::not_found) return fresh_format(options);
  if (!text.ok() && text.status().code() != Code::corruption) return text.status();
  if (text.ok() && is_older_format(text.value())) return made_afresh(options);
  auto parsed = text.ok() ? parse_format(text.value()) : Result<StoreFormat>(text.status());
  if (!parsed.ok() && parsed.status().code() == Code::corruption) {
    log(LogLevel::warning, "pages: %s is damaged (%s); the store is made afresh, empty",
        path.c_str(), parsed.status().message().c_str());
    return fresh_format(options);
  }
  if (!parsed.ok()) return parsed.status().with_context(path);
  if (parsed.value().slot_bytes != options.slot_bytes) {
    return make_status(
        Code::invalid_argument,
        "%s: the store has slots of %llu bytes, %llu are wanted; choose another path", path.c_str(),
        static_cast<unsigned long long>(parsed.value().slot_bytes),
        static_cast<unsigned long long>(options.slot_bytes));
  }
  return parsed;
}

Status check_options(const PageStoreOptions& options) {
  if (options.path.empty()) return make_status(Code::invalid_argument, "pages: no path is given");
  if (options.slot_bytes == 0 || options.slot_bytes % kAlign != 0 ||
      options.slot_bytes > UINT32_MAX) {
    return make_status(Code::invalid_argument,
                       "slot_bytes: %llu is no multiple of %zu from %zu to 4 GiB",
                       static_cast<unsigned long long>(options.slot_bytes), kAlign, kAlign);
  }
  if (!(options.eviction_low > 0 && options.eviction_low <= options.eviction_high &&
        options.eviction_high <= 1)) {
    return make_status(Code::invalid_argument,
                       "eviction_low and eviction_high: 0 < %g <= %g <= 1 does not hold",
                       options.eviction_low, options.eviction_high);
  }
  return {};
}

}  // namespace

WriterStore::WriterStore(const PageStoreOptions& options, const StoreFormat& format,
                         io::LockFile lock)
    : options_(options),
      format_(format),
      lock_(std::move(lock)),
      segments_(options.path, format, options.io_direct, true, options.file_mode),
      engine_(options),
      // Syncing a group must not keep slots from being freed.
      owned_workers_(std::make_unique<base::WorkerGroup>(
          "ucm-pages", options.durability == Durability::none ? 1 : 2)),
      workers_(owned_workers_.get()) {}

WriterStore::~WriterStore() { close(std::chrono::seconds(10)); }

Result<std::shared_ptr<WriterStore>> WriterStore::open(const PageStoreOptions& options) {
  UCM_TRY(check_options(options));
  UCM_TRY(io::make_folders(options.path, options.dir_mode, options.durability != Durability::none));
  UCM_TRY_ASSIGN(io::LockFile lock,
                 io::LockFile::acquire(io::join(options.path, kLockName), options.file_mode));
  UCM_TRY_ASSIGN(StoreFormat format, current_format(options));
  const uint64_t before = format.capacity_slots;
  UCM_TRY_ASSIGN(format.capacity_slots, capacity_slots(options));
  const bool listed = list_layout(options.layout_id, &format);
  if (listed || before != format.capacity_slots) {
    const Status written = io::write_small_file(io::join(options.path, kFormatName),
                                                format_text(format), options.file_mode);
    if (!written.ok() && (written.code() != Code::no_space || before == 0 || listed)) {
      return written;
    }
    if (!written.ok()) format.capacity_slots = before;
  }
  std::shared_ptr<WriterStore> store(new WriterStore(options, format, std::move(lock)));
  UCM_TRY(store->recover());
  return store;
}

Status WriterStore::recover() {
  const auto slots = static_cast<uint32_t>(format_.capacity_slots);
  const auto key_of = [this](uint32_t slot) { return mix(index_->key(slot)); };
  UCM_TRY_ASSIGN(policy_, base::make_eviction_policy(options_.eviction_policy, slots, key_of));
  UCM_TRY_ASSIGN(const size_t policy_bytes,
                 base::eviction_state_bytes(options_.eviction_policy, slots, true));
  UCM_TRY(segments_.scan());
  const std::vector<uint64_t> there = segments_.slots_there();
  const auto has_space = [&](uint32_t slot) {
    const uint64_t segment = slot / format_.segment_slots;
    return segment < there.size() && slot % format_.segment_slots < there[segment];
  };
  uint64_t reserved = 0;
  for (uint64_t segment = 0; segment < there.size(); ++segment) {
    if (there[segment] > 0) reserved = segment * format_.segment_slots + there[segment];
  }
  Recovered recovered;
  UCM_TRY_ASSIGN(index_, PageIndex::open_writable(options_.path, format_, options_.file_mode,
                                                  reserved, has_space, &recovered));
  if (options_.durability != Durability::none) UCM_TRY(make_safe(there));
  if (options_.second_use) {
    second_use_ = std::make_unique<base::SecondUse>(slots);
  }
  kept_ = base::SlotMarks(format_.capacity_slots, options_.pin_limit);
  free_ = FreeSlots(format_.capacity_slots);
  std::vector<bool> used(format_.capacity_slots, false);
  for (const uint32_t slot : recovered.slots) {
    used[slot] = true;
    policy_->insert(slot, mix(index_->key(slot)));
  }
  for (uint64_t segment = 0; segment < there.size(); ++segment) {
    slots_there_ += there[segment];
    for (uint64_t i = 0; i < there[segment]; ++i) {
      const uint64_t slot = segment * format_.segment_slots + i;
      if (!used[slot]) free_.add(static_cast<uint32_t>(slot));
    }
  }
  blocks_ = recovered.slots.size();
  evicted_ = recovered.beyond;
  memory_bytes_ = index_->bytes() + policy_bytes + free_.bytes() + kept_.bytes() +
                  (second_use_ ? second_use_->bytes() : 0);
  Consequences after;
  after.evictions = recovered.beyond;
  after.blocks = static_cast<int64_t>(blocks_);
  if (recovered.damaged > 0) dropped_["index"] = recovered.damaged;
  if (recovered.truncated > 0) dropped_["truncated"] = recovered.truncated;
  after.drops.insert(after.drops.end(), recovered.damaged, "index");
  after.drops.insert(after.drops.end(), recovered.truncated, "truncated");
  carry_out(&after);
  // The first dump should find a slot without waiting.
  if (free_.empty() && can_grow()) grow_once();
  return {};
}

// The files that an open has made or found: what stands in them counts as done from now on.
Status WriterStore::make_safe(const std::vector<uint64_t>& slots_there) {
  std::set<uint64_t> segments;
  for (uint64_t segment = 0; segment < slots_there.size(); ++segment) {
    if (slots_there[segment] > 0) segments.insert(segment);
  }
  UCM_TRY(segments_.sync(segments));
  UCM_TRY(index_->sync());
  return io::sync_folder(options_.path);
}

void WriterStore::carry_out(Consequences* after) {
  // Starting writes can fail some of them, which can let waiting ones start: a loop, no recursion.
  while (!after->writes.empty()) start_writes(std::exchange(after->writes, {}), after);
  for (const char* cause : after->drops) {
    if (options_.on_drop) options_.on_drop(cause);
  }
  if (after->evictions > 0 && options_.on_evict) options_.on_evict(after->evictions);
  if (after->blocks != 0 && options_.on_blocks) options_.on_blocks(after->blocks);
  if (after->pins != 0 && options_.on_pins) options_.on_pins(after->pins);
  if (after->refusals > 0 && options_.on_refuse) options_.on_refuse(after->refusals);
  report(&after->outcomes);
}

void WriterStore::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) const {
  if (closed_.load(std::memory_order_relaxed)) {
    std::fill(present.begin(), present.end(), uint8_t{0});
  } else {
    index_->lookup(keys, {options_.layout_id, options_.block_bytes}, present);
  }
}

Status WriterStore::remove(std::span<const BlockKey> keys) {
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return closed_status();
    for (const BlockKey& key : keys) {
      IndexEntry entry;
      if (index_->find(key, &entry)) forget_block(entry.slot, &after);
    }
    admit_waiting(&after);
  }
  carry_out(&after);
  return {};
}

Status WriterStore::pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) {
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return closed_status();
    const auto before = static_cast<int64_t>(kept_.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      IndexEntry entry;
      pinned[i] = index_->find(keys[i], &entry) && kept_.add(entry.slot);
    }
    after.pins = static_cast<int64_t>(kept_.size()) - before;
  }
  carry_out(&after);
  return {};
}

Status WriterStore::unpin(std::span<const BlockKey> keys) {
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return closed_status();
    const auto before = static_cast<int64_t>(kept_.size());
    for (const BlockKey& key : keys) {
      IndexEntry entry;
      if (index_->find(key, &entry)) kept_.remove(entry.slot);
    }
    after.pins = static_cast<int64_t>(kept_.size()) - before;
  }
  carry_out(&after);
  return {};
}

void WriterStore::touch(std::span<const BlockKey> keys) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  for (const BlockKey& key : keys) {
    IndexEntry entry;
    if (index_->find(key, &entry)) use_block(entry.slot);
  }
}

void WriterStore::renew(std::span<const BlockKey> keys) {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  for (size_t i = keys.size(); i > 0; --i) {
    IndexEntry entry;
    if (!index_->find(keys[i - 1], &entry)) continue;
    policy_->renew(entry.slot);
    index_->stamp_use(entry.slot, time_stamp(now_ns()));
  }
}

PageStoreStats WriterStore::stats() const {
  PageStoreStats stats;
  stats.engine = engine_.name();
  stats.direct = segments_.direct();
  const std::lock_guard lock(mutex_);
  stats.capacity_bytes = format_.capacity_slots * format_.slot_bytes;
  stats.used_bytes = (blocks_ + writing_.size()) * format_.slot_bytes;
  stats.blocks = blocks_;
  stats.evicted = evicted_;
  stats.transfers_under_way = writing_.size() + waiting_.size() + pinned_;
  stats.dropped = dropped_;
  stats.memory_bytes = memory_bytes_;
  return stats;
}

bool WriterStore::close(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    if (closed_.exchange(true)) return drained_;
    for (auto& [row, call] : waiting_) after.outcomes.push_back({call, row.row, closed_status()});
    waiting_.clear();
  }
  quiet_.notify_all();
  carry_out(&after);
  bool drained = engine_.close(timeout);
  std::unique_lock lock(mutex_);
  drained = quiet_.wait_until(lock, deadline, [this] { return all_ended(); }) && drained;
  drained_ = drained;
  given_up_ = !drained;
  note_end();
  lock.unlock();
  if (drained) {
    owned_workers_->close();
    lock_ = io::LockFile();
  } else {
    // Somebody is inside a call the storage does not answer. Threads and files stay with that call,
    // and the lock until the last one is over: nobody else may write these slots before.
    static_cast<void>(owned_workers_.release());
    log(LogLevel::error, "pages: %s did not answer within %lld ms; closed without waiting",
        options_.path.c_str(), static_cast<long long>(timeout.count()));
  }
  return drained;
}

// The lock of the store is held by whoever calls; that of the folder goes with the last straggler.
void WriterStore::note_end() {
  if (closed_) quiet_.notify_all();
  if (given_up_ && all_ended()) lock_ = io::LockFile();
}

void WriterStore::submit_job(void (WriterStore::*job)()) {
  ++jobs_;
  auto self = shared_from_this();
  const bool taken = workers_->submit(base::Lane::normal, [self, job] {
    (self.get()->*job)();
    const std::lock_guard lock(self->mutex_);
    --self->jobs_;
    self->note_end();
  });
  if (!taken) --jobs_;
}

}  // namespace ucm::pages
