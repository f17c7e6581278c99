// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "io/aligned_buffer.h"
#include "io/engine.h"
#include "pages/index_entry.h"
#include "pages/segments.h"
#include "ucm/pages.h"

namespace ucm::pages {

// What all rows of one load or dump share.
struct RowCall {
  PageRowDone done;
  TaskPtr task;
  bool cancelled() const { return task && task->cancelled(); }
};
using CallPtr = std::shared_ptr<RowCall>;

// How a row ended, kept until no lock is held any more.
struct RowOutcome {
  CallPtr call;
  uint32_t row = 0;
  Status status;
};

// A row between its caller and the engine. The engine works on the caller's memory when that is
// aligned and roomy enough for the file, else on a buffer of ours.
struct RowTransfer {
  PageRow row;
  CallPtr call;
  IndexEntry entry;
  Place place;
  io::AlignedBuffer bounce;
  io::Transferred result;
  bool retried = false;

  // Sets `place` and the buffer; dumps fill the buffer.
  Status prepare(Segments* segments, bool write);
  io::Request request(bool write);
  // After a read: whether the payload came and is what was written. Copies it to the caller.
  Status check(Verify verify, uint64_t store_seed);
  // Whether the trouble may be over when it is tried again.
  bool worth_retrying() const { return !retried && result.error == EIO; }
};

// An engine made at first use: most stores of a scheduler only answer lookups.
class LazyEngine {
 public:
  explicit LazyEngine(const PageStoreOptions& options);
  // Requests that come after `close` end with ECANCELED.
  void submit(std::span<io::Request> requests);
  std::string name() const;
  size_t outstanding() const;
  bool close(std::chrono::milliseconds timeout);

 private:
  const io::EngineOptions options_;
  mutable std::mutex mutex_;
  std::shared_ptr<io::Engine> engine_;
  bool closed_ = false;
};

// ok unless the row asks for something no slot can hold.
Status check_row(const PageRow& row, uint64_t slot_bytes);
Status closed_status();
void report(std::vector<RowOutcome>* outcomes);

}  // namespace ucm::pages
