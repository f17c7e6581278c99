// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "stages/disk/disk_options.h"
#include "store/capacity_shadow.h"
#include "store/stage.h"
#include "store/stage_metrics.h"
#include "ucm/pages.h"

namespace ucm::disk {

// Blocks in page stores: one per storage backend, in the folder of their slot size. A stage without
// a layout, or read-only, opens what it finds and keeps looking for what is not there yet.
class DiskStage final : public Store {
 public:
  static Result<StorePtr> open(StageContext context);
  ~DiskStage() override { close(); }

  const BlockLayout& layout() const override { return layout_; }
  Status lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) override;
  Result<size_t> lookup_prefix(std::span<const BlockKey> keys) override;
  Status prefetch(std::span<const BlockKey> keys) override;
  TaskPtr load(const Batch& batch) override;
  TaskPtr dump(const Batch& batch) override;
  std::optional<uint64_t> digest_seed(const BlockKey& key) const override;
  Status remove(std::span<const BlockKey> keys) override;
  Status renew(std::span<const BlockKey> keys) override;
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override;
  Status unpin(std::span<const BlockKey> keys) override;
  void close() override;

 private:
  using Stores = std::vector<std::shared_ptr<PageStore>>;
  // Rows of one batch on their way to one store.
  using RowsPerStore = std::vector<std::vector<PageRow>>;
  struct Transfer;

  DiskStage(DiskOptions options, StageContext* context);
  Status open_writers();
  Status check_open() const;
  PageStoreOptions store_options(const std::string& path);
  // The stores there are; looks for more of them now and then when reading only.
  std::shared_ptr<const Stores> stores();
  void find_readers(Stores* found);
  void lookup_in(const Stores& stores, std::span<const BlockKey> keys, std::span<uint8_t> present);
  TaskPtr transfer(Direction direction, const Batch& batch);
  void route_load(const Stores& stores, const Transfer& transfer, const Batch& batch,
                  RowsPerStore* rows);
  void route_dump(const Stores& stores, const Transfer& transfer, const Batch& batch,
                  RowsPerStore* rows);

  const DiskOptions options_;
  const BlockLayout layout_;
  const bool reading_only_;
  const std::shared_ptr<StageMetrics> metrics_;
  const std::shared_ptr<base::MetricRegistry> registry_;
  std::unique_ptr<CapacityShadow> shadow_;  // of a writer
  std::atomic<uint64_t> next_backend_{0};
  std::atomic<bool> closed_{false};
  mutable std::shared_mutex mutex_;
  std::shared_ptr<const Stores> stores_;
  std::vector<std::string> known_paths_;  // of stores_, when reading only
  std::atomic<int64_t> next_look_ns_{0};
};

}  // namespace ucm::disk
