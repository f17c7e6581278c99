// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>

#include "pages/writer_store.h"
#include "ucm/log.h"

namespace ucm::pages {
namespace {

constexpr unsigned kMaxWriteErrors = 4;
constexpr std::chrono::seconds kWritePause{5};
constexpr std::chrono::seconds kFlushEvery{1};

Status dump_status(const io::Transferred& result, size_t wanted, const RowTransfer& write) {
  const std::string key = write.row.key.prefix();
  if (result.error == ECANCELED) {
    return make_status(Code::cancelled, "dump of %s was cancelled", key.c_str());
  }
  if (result.error == ENOSPC || result.error == EDQUOT) {
    return errno_status(result.error,
                        "dump of %s to %s: free some space or lower capacity_bytes; stored blocks "
                        "stay readable",
                        key.c_str(), write.place.file->path().c_str());
  }
  if (result.error != 0) {
    return errno_status(result.error, "dump of %s to %s", key.c_str(),
                        write.place.file->path().c_str());
  }
  if (result.bytes < wanted) {
    return make_status(Code::io_error, "dump of %s: %s took %zu of %zu bytes", key.c_str(),
                       write.place.file->path().c_str(), result.bytes, wanted);
  }
  return {};
}

}  // namespace

void WriterStore::dump(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) {
  const CallPtr call = std::make_shared<RowCall>(RowCall{std::move(done), std::move(task)});
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    for (const PageRow& row : rows) {
      // Nobody overtakes a row that waits for a slot.
      if (!waiting_.empty() || !admit_dump(row, call, &after)) waiting_.emplace_back(row, call);
    }
    admit_waiting(&after);
    if (wants_upkeep()) schedule_upkeep();
  }
  carry_out(&after);
}

// True when the row is settled: started, joined to another or answered. False: no slot yet.
bool WriterStore::admit_dump(const PageRow& row, const CallPtr& call, Consequences* after) {
  const auto answer = [&](Status status) {
    after->outcomes.push_back({call, row.row, std::move(status)});
    return true;
  };
  if (closed_) return answer(closed_status());
  if (Status status = check_row(row, format_.slot_bytes); !status.ok()) return answer(status);
  if (call->cancelled()) {
    return answer(
        make_status(Code::cancelled, "dump of %s was cancelled", row.key.prefix().c_str()));
  }
  IndexEntry entry;
  if (index_->find(row.key, &entry)) {
    if (entry.length == row.bytes && layouts_fit(entry.layout_id, options_.layout_id)) {
      use_block(entry.slot);
      const auto committing = committing_.find(row.key);
      if (committing == committing_.end()) return answer(Status());
      committing->second->twins.emplace_back(row, call);
      return true;
    }
    drop_block(entry.slot, "layout", after);
  }
  const auto writing = writing_.find(row.key);
  if (writing != writing_.end()) {
    writing->second->twins.emplace_back(row, call);
    return true;
  }
  if (second_use_ && !second_use_->admit(mix(row.key))) {
    ++after->refusals;
    return answer(Status());
  }
  if (std::chrono::steady_clock::now() < writes_stopped_until_) {
    return answer(Status(write_error_).with_context("writing is paused after repeated errors"));
  }
  uint32_t slot = 0;
  if (!take_slot(&slot, after)) {
    if (may_free_up()) return false;
    return answer(make_status(
        Code::no_space,
        "dump of %s: %s has no slot left (%llu of %llu reserved); free some space on the disk",
        row.key.prefix().c_str(), options_.path.c_str(),
        static_cast<unsigned long long>(slots_there_),
        static_cast<unsigned long long>(format_.capacity_slots)));
  }
  auto write = std::make_shared<Write>();
  write->row = row;
  write->call = call;
  write->entry.key = row.key;
  write->entry.slot = slot;
  write->entry.length = row.bytes;
  write->entry.layout_id = options_.layout_id;
  writing_.emplace(row.key, write);
  after->writes.push_back(std::move(write));
  return true;
}

void WriterStore::admit_waiting(Consequences* after) {
  while (!waiting_.empty()) {
    const auto [row, call] = waiting_.front();
    if (!admit_dump(row, call, after)) return;
    waiting_.pop_front();
  }
}

void WriterStore::start_writes(std::vector<WritePtr> writes, Consequences* after) {
  std::vector<io::Request> requests;
  std::erase_if(writes, [&](const WritePtr& write) {
    Status status = write->prepare(&segments_, true);
    if (!status.ok()) {
      const std::lock_guard lock(mutex_);
      finish_write(write, std::move(status), after);
      return true;
    }
    io::Request request = write->request(true);
    request.done = [self = shared_from_this(), write](const io::Transferred& result) {
      write->result = result;
      self->part_ended(write);
    };
    requests.push_back(std::move(request));
    return false;
  });
  engine_.submit(requests);
  // The digest is taken while the disk is busy with the bytes.
  for (const WritePtr& write : writes) {
    const PageRow& row = write->row;
    write->entry.digest =
        row.digest ? row.digest->low : payload_digest(row.data, row.bytes, row.key, format_.seed());
    part_ended(write);
  }
}

void WriterStore::part_ended(const WritePtr& write) {
  if (write->parts.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const size_t wanted = write->place.file->direct() ? align_up(write->row.bytes) : write->row.bytes;
  Status status = dump_status(write->result, wanted, *write);
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    note_write_error(status, write->result.error);
    if (status.ok() && options_.durability == Durability::strict) {
      to_commit_.push_back(write);
      if (!commit_scheduled_) {
        commit_scheduled_ = true;
        submit_job(&WriterStore::commit_strictly);
      }
    } else {
      finish_write(write, std::move(status), &after);
    }
  }
  carry_out(&after);
}

void WriterStore::note_write_error(const Status& status, int error) {
  if (status.ok()) {
    write_errors_ = 0;
  } else if (error != 0 && error != ECANCELED && ++write_errors_ >= kMaxWriteErrors) {
    writes_stopped_until_ = std::chrono::steady_clock::now() + kWritePause;
    write_errors_ = 0;
    write_error_ = status;
    log(LogLevel::error, "pages: writing is paused for 5 s, reading goes on: %s",
        status.message().c_str());
  }
}

void WriterStore::finish_write(const WritePtr& write, Status status, Consequences* after) {
  writing_.erase(write->row.key);
  const uint32_t slot = write->entry.slot;
  if (status.ok()) {
    write->entry.written = write->entry.use = time_stamp(now_ns());
    index_->publish(write->entry);
    policy_->insert(slot, mix(write->row.key));
    ++blocks_;
    ++after->blocks;
    if (options_.durability == Durability::group) {
      dirty_.insert(segments_.segment_of(slot));
      if (!flush_scheduled_) {
        flush_scheduled_ = true;
        submit_job(&WriterStore::flush_group);
      }
    }
    for (auto& [row, call] : write->twins) after->outcomes.push_back({call, row.row, Status()});
  } else {
    if (write->result.error == EIO) {
      ++lost_slots_;  // not used again before the next open
    } else {
      free_.add(slot);
    }
    // Dumps that relied on this one try with their own memory.
    for (auto& twin : write->twins) waiting_.push_front(std::move(twin));
  }
  write->twins.clear();
  after->outcomes.push_back({write->call, write->row.row, std::move(status)});
  admit_waiting(after);
  if (wants_upkeep()) schedule_upkeep();
  note_end();
}

void WriterStore::end_commit(const std::vector<WritePtr>& writes, Consequences* after) {
  const std::lock_guard lock(mutex_);
  for (const WritePtr& write : writes) {
    committing_.erase(write->row.key);
    for (auto& [row, call] : write->twins) after->outcomes.push_back({call, row.row, Status()});
    write->twins.clear();
  }
}

// One sync for all writes that ended since the last one began.
void WriterStore::commit_strictly() {
  while (true) {
    std::vector<WritePtr> writes;
    {
      const std::lock_guard lock(mutex_);
      writes.swap(to_commit_);
      if (writes.empty()) {
        commit_scheduled_ = false;
        return;
      }
    }
    std::set<uint64_t> segments;
    for (const WritePtr& write : writes) segments.insert(segments_.segment_of(write->entry.slot));
    const Status synced = segments_.sync(segments);
    Consequences after;
    {
      const std::lock_guard lock(mutex_);
      for (const WritePtr& write : writes) {
        finish_write(write, synced, &after);
        if (synced.ok()) committing_.emplace(write->row.key, write);
      }
    }
    const Status indexed = synced.ok() ? index_->sync() : synced;
    end_commit(writes, &after);
    for (RowOutcome& outcome : after.outcomes) {
      if (outcome.status.ok()) outcome.status = indexed;
    }
    carry_out(&after);
  }
}

void WriterStore::flush_group() {
  std::set<uint64_t> segments;
  {
    std::unique_lock lock(mutex_);
    quiet_.wait_for(lock, kFlushEvery, [this] { return closed_.load(); });
    segments.swap(dirty_);
    flush_scheduled_ = false;
  }
  Status status = segments_.sync(segments);
  if (status.ok()) status = index_->sync();
  if (!status.ok()) {
    log(LogLevel::warning, "pages: flushing %s: %s", options_.path.c_str(),
        status.message().c_str());
  }
}

}  // namespace ucm::pages
