// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/metric_registry.h"
#include "io/lock_file.h"
#include "ucm/page_service.h"
#include "ucm/pages.h"
#include "ucm/store.h"

namespace ucm::page_service {

// A page store on a file system that several nodes share: `path/scope-<id>/node-<name>/` holds one
// file per page, written by that node alone; every node of the scope reads all of them. Lookups
// ask the file system. Thread-safe.
class SharedPages final : public PageStore {
 public:
  // unavailable: a running node of the same name. invalid_argument: a name no folder can have.
  static Result<std::shared_ptr<SharedPages>> open(const PageServiceOptions& options,
                                                   uint64_t page_bytes, uint64_t scope_id);

  void lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) const override;
  void load(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) override;
  void dump(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) override;
  Status remove(std::span<const BlockKey> keys) override;
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override;
  Status unpin(std::span<const BlockKey> keys) override;
  uint64_t digest_seed(const BlockKey& key) const override;
  void renew(std::span<const BlockKey>) override {}
  void touch(std::span<const BlockKey>) override {}  // reading and asking touch the files
  PageStoreStats stats() const override;
  uint64_t slot_bytes() const override { return layout_.slot_bytes(); }
  bool close(std::chrono::milliseconds timeout) override;

 private:
  using SharedStore = std::shared_ptr<Store>;

  SharedPages(const PageServiceOptions& options, BlockLayout layout);
  Status prepare(uint64_t scope_id);
  void drop_old_scopes() const;
  Status reading_only() const;
  Result<SharedStore> open_stage(const std::vector<std::string>& roots, bool read_only) const;
  // The pages of all other nodes; null while there are none. Looks for new nodes now and then.
  SharedStore others() const;
  void move(const SharedStore& store, Direction direction, const std::vector<PageRow>& rows,
            const PageRowDone& done);

  const PageServiceOptions options_;
  const BlockLayout layout_;
  std::string folder_;  // of the scope
  std::string own_root_;
  io::LockFile lock_;
  SharedStore own_;
  std::shared_ptr<base::MetricRegistry> metrics_;

  mutable std::mutex mutex_;  // guards the view of the other nodes
  mutable std::vector<std::string> other_roots_;
  mutable SharedStore others_;
  mutable std::vector<SharedStore> retired_;
  mutable std::chrono::steady_clock::time_point next_look_ = {};
  std::atomic<bool> closed_{false};
  std::atomic<uint64_t> under_way_{0};
};

}  // namespace ucm::page_service
