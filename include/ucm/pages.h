// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ucm/inspect.h"
#include "ucm/key.h"
#include "ucm/status.h"
#include "ucm/task.h"

// The disk page manager: blocks of one size in fixed slots of preallocated files.
// docs/formats.md describes the files.
namespace ucm {

enum class Verify : uint8_t { always, sample, never };  // sample: one block in 64, by key
// When a dump is done: none - written; group - written, and on the disk within a second;
// strict - on the disk.
enum class Durability : uint8_t { none, group, strict };

struct PageStoreOptions {
  std::string path;             // one folder, made when missing (not when read_only)
  uint64_t slot_bytes = 0;      // a multiple of kAlign; 0 with read_only: what the store has
  uint64_t capacity_bytes = 0;  // 0: 90 % of what is free and its own
  uint64_t segment_bytes = 1ull << 30;
  uint64_t layout_id = 0;    // stored with each block and demanded of it; 0 accepts any
  uint32_t block_bytes = 0;  // lookups only see blocks of this length; 0: of any length
  bool read_only = false;    // no lock; sees blocks as another process publishes them
  bool io_direct = true;
  bool use_io_uring = true;
  uint32_t io_threads = 4;
  uint32_t io_depth = 16;
  std::string eviction_policy = "auto";
  double eviction_high = 0.95;  // fraction of the slots in use at which eviction starts
  double eviction_low = 0.90;   // and where it stops
  bool second_use = false;      // a block is stored when it is dumped for the second time
  double pin_limit = 0.5;       // fraction of the slots that may be pinned
  Verify verify = Verify::always;
  Durability durability = Durability::none;
  uint32_t dir_mode = 0700;
  uint32_t file_mode = 0600;
  // Optional, called on any thread: a block was dropped because it could not be trusted, with the
  // cause ("checksum", "truncated", "index", "layout", "io_error"); `count` blocks were evicted;
  // the number of stored blocks changed by `change` (also at open), that of pinned ones likewise;
  // `count` blocks were not stored because it was their first use.
  std::function<void(std::string_view cause)> on_drop;
  std::function<void(size_t count)> on_evict;
  std::function<void(int64_t change)> on_blocks;
  std::function<void(int64_t change)> on_pins;
  std::function<void(size_t count)> on_refuse;
};

// One block to move. `room` is how many bytes may be read or written behind `data`; with
// room >= bytes rounded up to kAlign and an aligned address nothing is copied on the way.
struct PageRow {
  BlockKey key;
  void* data = nullptr;
  uint32_t bytes = 0;  // dump: payload length; load: the length the block must have
  uint32_t room = 0;
  uint32_t row = 0;  // handed back
  // Dump: the digest of the payload with the seed of `digest_seed`, when it is known already.
  std::optional<Digest> digest = {};
};

using PageRowDone = std::function<void(uint32_t row, const Status& status)>;

struct PageStoreStats {
  uint64_t capacity_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t blocks = 0;
  uint64_t evicted = 0;
  uint64_t transfers_under_way = 0;
  uint64_t memory_bytes = 0;  // of the index, mapped, and of the eviction policy, at full capacity
  std::map<std::string, uint64_t> dropped;  // by cause
  bool direct = false;
  std::string engine;  // "io_uring", "threads", "" before the first transfer
};

// Thread-safe. The memory of a row is borrowed until its `done` was called, on a thread of the
// store or the caller's; rows end only when the kernel has let go of their memory.
class UCM_API PageStore {
 public:
  // unavailable: another process writes here. invalid_argument: options that make no sense, or a
  // store of another slot size. unsupported: a newer format. not_found: read_only and nothing here.
  // A store whose description is damaged is made afresh, empty.
  static Result<std::shared_ptr<PageStore>> open(const PageStoreOptions& options);
  virtual ~PageStore() = default;

  // present[i] = 1 when keys[i] can be loaded with the layout id of the options, else 0.
  virtual void lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) const = 0;

  // `done` is called once per row: ok; not_found; corruption (the block was there but damaged, and
  // is dropped); io_error; cancelled once `task`, which may be null, is cancelled.
  virtual void load(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) = 0;
  // A block that is there is ok at once; one being written by an earlier dump ends with it.
  // no_space when no slot can be had. With second_use a block seen for the first time is ok and not
  // stored. read_only: unsupported.
  virtual void dump(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) = 0;
  // Keys that are absent are no error. read_only: unsupported.
  virtual Status remove(std::span<const BlockKey> keys) = 0;
  // As Store::pin and unpin; marks are not stored. read_only: unsupported.
  virtual Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) = 0;
  virtual Status unpin(std::span<const BlockKey> keys) = 0;
  // These blocks were used: the last one most recently.
  virtual void touch(std::span<const BlockKey> keys) = 0;
  // As Store::renew.
  virtual void renew(std::span<const BlockKey> keys) = 0;

  // The seed of the digest a block's payload is stored with.
  virtual uint64_t digest_seed(const BlockKey& key) const = 0;
  virtual PageStoreStats stats() const = 0;
  virtual uint64_t slot_bytes() const = 0;
  // Later calls end `unavailable`. False when the storage did not answer within `timeout`: rows
  // under way then stay unfinished until it does. Idempotent.
  virtual bool close(std::chrono::milliseconds timeout) = 0;
};

// Walks the blocks of one page store in slot order without changing anything; see inspect_blocks.
UCM_API Status walk_pages(const std::string& path, bool verify, const BlockVisitor& visit);

}  // namespace ucm
