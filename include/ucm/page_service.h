// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ucm/batch.h"
#include "ucm/key.h"
#include "ucm/pages.h"
#include "ucm/status.h"

// Pages of one caller's tensor to and from a page store, block by block: what LightLLM's third
// level does. docs/lightllm.md describes the folder.
namespace ucm {

// The caller's memory: `pages` rows of `page_bytes`, one behind the other. Any alignment.
struct PageTensor {
  std::byte* data = nullptr;
  uint64_t pages = 0;
  uint64_t page_bytes = 0;
};

struct PageServiceOptions {
  std::string path;             // a folder of the service alone, made when missing
  uint64_t capacity_bytes = 0;  // must fit on the disk
  std::string scope;       // what the stored pages belong to; pages of another scope are dropped
  bool keep = true;        // false: whatever is there is dropped at open
  bool read_only = false;  // beside the process that owns the folder
  std::string node;        // not empty: the folder is shared by nodes, this is the name of ours
  uint32_t workers = 2;    // threads that copy pages
  uint64_t staging_bytes = 32 << 20;  // memory for pages under way; at least four pages are there
  bool io_direct = true;
  bool use_io_uring = true;
};

enum class BlockState : uint8_t { initial, working, finished, aborted };

// Blocks under way. `ready`, `data_safe` and `states` are atomic loads.
class UCM_API PageTask {
 public:
  virtual ~PageTask() = default;
  virtual Direction direction() const = 0;
  // Every block is finished or aborted: nothing of this task touches the tensor any more.
  virtual bool ready() const = 0;
  // dump: the pages are not looked at any more. load: the same as `ready`.
  virtual bool data_safe() const = 0;
  virtual std::vector<BlockState> states() const = 0;
  // The pages of blocks that were stored before; fixed when the task is made.
  virtual const std::vector<int32_t>& already_stored() const = 0;
};
using PageTaskPtr = std::shared_ptr<PageTask>;

// The blocks of one call: block b is `pages[b * block_pages ...]`, `block_pages` of them or, at the
// end, fewer, and `keys[b]` names the content up to its last page.
struct PageBlocks {
  std::span<const BlockKey> keys;
  std::span<const int32_t> pages;
  uint32_t block_pages = 1;
  uint32_t first_block = 0;  // blocks before it are left out
};

struct PageServiceStats {
  PageStoreStats store;
  uint64_t pages_written = 0;
  uint64_t pages_read = 0;
  uint64_t pages_queried = 0;
  uint64_t pages_found = 0;
  std::map<std::string, uint64_t> failed_loads;  // pages, by the name of the code
  std::map<std::string, uint64_t> failed_dumps;
  uint64_t staging_bytes = 0;
  uint32_t workers = 0;
};

// Thread-safe. After `open` nothing fails loudly: a page that can not be stored or read is an
// aborted block, counted and logged.
class UCM_API PageService {
 public:
  // unavailable: another process owns the folder. no_space: less is free than the capacity.
  // invalid_argument: options that make no sense. not_found: read_only, and nothing of this scope.
  static Result<std::shared_ptr<PageService>> open(const PageServiceOptions& options,
                                                   const PageTensor& tensor);
  virtual ~PageService() = default;

  // present[b] = 1 when all pages of block b can be loaded; `pages` counts all of them. Stored
  // blocks count as used, the first of the call most recently.
  virtual void lookup(std::span<const BlockKey> keys, uint64_t pages, uint32_t block_pages,
                      std::span<uint8_t> present) = 0;
  // Does no I/O and copies what it needs. invalid_argument: numbers that do not fit the tensor.
  virtual Result<PageTaskPtr> create(Direction direction, const PageBlocks& blocks) = 0;
  // Ends what is not over as aborted. When it returns, both milestones are passed and no byte of
  // the tensor is read or written for this task; it never waits for storage.
  virtual void abort(const PageTaskPtr& task) = 0;
  // Tasks made and not ready.
  virtual uint64_t active(Direction direction) const = 0;
  virtual PageServiceStats stats() const = 0;
  // Aborts loads, waits for dumps until `timeout`, aborts the rest. Idempotent.
  virtual void close(std::chrono::milliseconds timeout) = 0;
};

// XXH3-128 of each run of `block_tokens` token ids as little-endian 64-bit numbers.
UCM_API std::vector<BlockKey> hash_token_blocks(std::span<const uint64_t> tokens,
                                                uint32_t block_tokens);

}  // namespace ucm
