// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "ucm/batch.h"
#include "ucm/key.h"
#include "ucm/layout.h"
#include "ucm/status.h"
#include "ucm/task.h"

namespace ucm {

// The contract of every stage and pipeline. All calls are thread-safe. `lookup` says yes only for
// what `load` can return; a miss is not an error, but a `load` of an absent block fails those rows
// with `not_found`. A block that is already there is `done` at once when dumped again.
// On failure of a call nothing was started. Destruction closes.
class UCM_API Store {
 public:
  virtual ~Store() = default;

  // The layout this store was opened with; empty for a lookup-only store.
  virtual const BlockLayout& layout() const = 0;

  // present[i] = 1 when keys[i] can be loaded, else 0. `present` has keys.size() places.
  virtual Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) = 0;
  // How many of the first keys are all present: a count, 0 for none.
  virtual Result<size_t> lookup_prefix(std::span<const BlockKey> keys) = 0;
  // A hint: bring the blocks to a faster stage. Returns at once; never fails for an absent block.
  virtual Status prefetch(std::span<const BlockKey> keys) = 0;

  // Never null. A batch that does not fit the layout gives a finished task with invalid_argument.
  virtual TaskPtr load(const Batch& batch) = 0;
  virtual TaskPtr dump(const Batch& batch) = 0;

  // The seed of the XXH3-128 digest this stage stores of a block's payload. A caller that copies
  // the payload can take the digest on the way and hand it over with the dump (Batch::digests), so
  // that the bytes are read once. Empty: the stage takes its digests itself.
  virtual std::optional<uint64_t> digest_seed(const BlockKey&) const { return {}; }

  // Forgets the blocks in every stage. Blocks that are absent are no error.
  virtual Status remove(std::span<const BlockKey> keys) = 0;
  // After a dump that was broken off, or whose bytes turned out to be wrong: nothing of it is used.
  // A block of which only a part has come is forgotten, and a complete one that a stage below has
  // stays; when all of it has come, the block is removed. So is one that the Cache does not hold
  // (any more): the dump may have completed it, and a good block that is lost is a miss only.
  virtual Status abandon(std::span<const BlockKey> keys) { return remove(keys); }

  // The blocks of one chain, its head first, after its loads and dumps, which may have come in
  // several batches: heads leave after tails again. A hint, and no further use; absent blocks are
  // no error. Posix, whose order is that of its files' times, leaves them alone.
  virtual Status renew(std::span<const BlockKey> keys);

  // Keeps blocks from being evicted until `unpin` or `remove`, in every stage that holds them now.
  // pinned[i] = 1 when keys[i] is stored and kept, 0 when it is absent or a stage's share for
  // pinned blocks (`pin_limit`) is used up. A pin is a mark: it does not count. Marks in Cache and
  // Disk end when the store is closed; those in Posix stay with the files.
  virtual Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned);
  // Blocks that are absent or not pinned are no error.
  virtual Status unpin(std::span<const BlockKey> keys);

  // Ends what is under way within the stage's timeout and lets go of threads, files and memory.
  // Of a pipeline: loads that a hanging storage has not answered by then fail as `unavailable`, and
  // no byte of the callers' memory moves any more; released dumps are done when it answers.
  // Later calls answer `unavailable`. Idempotent.
  virtual void close() = 0;
};

using StorePtr = std::unique_ptr<Store>;

}  // namespace ucm
