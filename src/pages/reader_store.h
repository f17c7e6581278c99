// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <shared_mutex>

#include "pages/page_index.h"
#include "pages/row_transfer.h"
#include "pages/segments.h"
#include "ucm/pages.h"

namespace ucm::pages {

// A page store that another process may be writing. Blocks appear as they are published; a block
// that is replaced while it is read is a miss. Follows the writer when it opens the store again.
class ReaderStore final : public PageStore, public std::enable_shared_from_this<ReaderStore> {
 public:
  static Result<std::shared_ptr<ReaderStore>> open(const PageStoreOptions& options);

  void lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) const override;
  void load(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) override;
  void dump(std::span<const PageRow> rows, PageRowDone done, TaskPtr task) override;
  Status remove(std::span<const BlockKey> keys) override;
  Status pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) override;
  Status unpin(std::span<const BlockKey> keys) override;
  void touch(std::span<const BlockKey> keys) override;
  void renew(std::span<const BlockKey> keys) override;
  PageStoreStats stats() const override;
  uint64_t slot_bytes() const override { return slot_bytes_; }
  uint64_t digest_seed(const BlockKey& key) const override;
  bool close(std::chrono::milliseconds timeout) override;

 private:
  // The files as one generation of the writer left them. Reads keep theirs alive.
  struct View {
    StoreFormat format;
    std::unique_ptr<PageIndex> index;
    std::unique_ptr<Segments> segments;
  };
  using ViewPtr = std::shared_ptr<const View>;
  struct Read : RowTransfer {
    ViewPtr view;
  };

  explicit ReaderStore(const PageStoreOptions& options) : options_(options), engine_(options) {}
  Result<ViewPtr> make_view() const;
  // The current view; null while the files are being made.
  ViewPtr view() const;
  void start(const std::vector<std::shared_ptr<Read>>& reads);
  void read_ended(const std::shared_ptr<Read>& read);
  void count_drop(const char* cause);

  const PageStoreOptions options_;
  uint64_t slot_bytes_ = 0;
  mutable LazyEngine engine_;
  mutable std::shared_mutex view_mutex_;
  mutable ViewPtr view_;
  mutable std::atomic<int64_t> next_look_ns_{0};
  std::atomic<bool> closed_{false};
  mutable std::mutex mutex_;
  std::map<std::string, uint64_t> dropped_;
};

}  // namespace ucm::pages
