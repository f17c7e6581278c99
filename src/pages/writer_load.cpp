// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cerrno>
#include <chrono>

#include "pages/writer_store.h"

namespace ucm::pages {

uint64_t WriterStore::now_ns() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::system_clock::now().time_since_epoch())
                                   .count());
}

void WriterStore::load(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) {
  const CallPtr call = std::make_shared<RowCall>(RowCall{std::move(done), std::move(task)});
  Consequences after;
  std::vector<ReadPtr> reads;
  reads.reserve(rows.size());
  {
    const std::lock_guard lock(mutex_);
    for (const PageRow& row : rows) {
      if (ReadPtr read = admit_load(row, call, &after)) reads.push_back(std::move(read));
    }
    // The first block of a batch is the head of its chain: it stays longest.
    for (size_t i = reads.size(); i-- > 0;) use_block(reads[i]->entry.slot);
  }
  start_reads(reads);
  carry_out(&after);
}

// A pinned read, or null when the row is answered already.
WriterStore::ReadPtr WriterStore::admit_load(const PageRow& row, const CallPtr& call,
                                             Consequences* after) {
  Status status = closed_ ? closed_status() : check_row(row, format_.slot_bytes);
  IndexEntry entry;
  if (status.ok() && !index_->find(row.key, &entry)) {
    status = make_status(Code::not_found, "block %s is not in %s", row.key.prefix().c_str(),
                         options_.path.c_str());
  }
  if (status.ok() &&
      (entry.length != row.bytes || !layouts_fit(entry.layout_id, options_.layout_id))) {
    drop_block(entry.slot, "layout", after);
    status = make_status(Code::not_found, "block %s was stored for another layout",
                         row.key.prefix().c_str());
  }
  if (!status.ok()) {
    after->outcomes.push_back({call, row.row, std::move(status)});
    return nullptr;
  }
  ++pins_[entry.slot].count;
  ++pinned_;
  auto read = std::make_shared<RowTransfer>();
  read->row = row;
  read->call = call;
  read->entry = entry;
  return read;
}

void WriterStore::start_reads(const std::vector<ReadPtr>& reads) {
  std::vector<io::Request> requests;
  for (const ReadPtr& read : reads) {
    const Status status = read->prepare(&segments_, false);
    if (!status.ok()) {
      Consequences after;
      {
        const std::lock_guard lock(mutex_);
        release_pin(read->entry.slot);
        after.outcomes.push_back({read->call, read->row.row, status});
      }
      carry_out(&after);
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

void WriterStore::read_ended(const ReadPtr& read) {
  if (read->worth_retrying()) {
    read->retried = true;
    start_reads({read});
    return;
  }
  Status status = read->check(options_.verify, format_.seed());
  segments_.forget_cached(read->place, read->row.bytes);
  Consequences after;
  {
    const std::lock_guard lock(mutex_);
    const uint32_t slot = read->entry.slot;
    const char* cause = nullptr;
    if (status.code() == Code::corruption) {
      cause = read->result.bytes < read->row.bytes ? "truncated" : "checksum";
    } else if (read->result.error == EIO) {
      cause = "io_error";
    }
    IndexEntry now;
    if (cause && index_->entry(slot, &now) && now == read->entry) drop_block(slot, cause, &after);
    release_pin(slot);
    after.outcomes.push_back({read->call, read->row.row, std::move(status)});
    admit_waiting(&after);
  }
  carry_out(&after);
}

void WriterStore::use_block(uint32_t slot) {
  policy_->touch(slot);
  index_->stamp_use(slot, time_stamp(now_ns()));
}

}  // namespace ucm::pages
