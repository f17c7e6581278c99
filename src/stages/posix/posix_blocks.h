// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/second_use.h"
#include "stages/posix/posix_books.h"
#include "stages/posix/posix_options.h"
#include "stages/posix/posix_presence.h"
#include "stages/posix/posix_root.h"
#include "store/stage_metrics.h"

namespace ucm::posix {

// The blocks of all roots, with the retries of the configuration. Calls do the I/O themselves and
// take as long as the storage does; `deadline` only ends retries. A root that fails is passed over
// while another one can answer. Thread-safe.
class BlockSet {
 public:
  using Clock = std::chrono::steady_clock;

  static Result<std::shared_ptr<BlockSet>> open(const PosixOptions& options,
                                                const BlockLayout& layout, bool read_only,
                                                std::shared_ptr<StageMetrics> metrics);

  // 1 when a file of the right size is there. Fails only when no root can tell.
  Result<uint8_t> has(const BlockKey& key);
  // Answers from memory alone; false when one of the keys has to be asked for.
  bool known(std::span<const BlockKey> keys, std::span<uint8_t> present) const;
  // The checked payload, padded with zeros, in `buffer` of `buffer_bytes`. not_found says why.
  // `report` holds the open file for `note_use`.
  Status read(const BlockKey& key, std::byte* buffer, Clock::time_point deadline,
              BlockReport* report);
  // Whether the kernel had the block in memory and its checked payload is in `memory` now. Never
  // waits for the storage; when it had not, `memory` may have changed.
  bool read_cached(const BlockKey& key, std::byte* memory, BlockReport* report);
  // ok when the block is stored already, not_found when it is to be written.
  Status find_stored(const BlockKey& key);
  // `wanted`: see BlockRoot::write. True when we stored the block, false when somebody else has.
  Result<bool> write(const BlockKey& key, const BlockImage& image, int64_t modified_ns,
                     Clock::time_point deadline, const std::function<bool()>& wanted);
  // Whether blocks of this layout that are dumped together share files.
  bool packs() const;
  // Blocks with the same number can share a file.
  size_t pack_home(const BlockKey& key) const {
    return options_.path_strategy == PathStrategy::hash ? home(key) : 0;
  }
  // One answer per block of the image; see BlockRoot::write_pack.
  std::vector<Result<bool>> write_pack(const PackImage& image, int64_t modified_ns,
                                       const std::function<bool(size_t)>& wanted);
  // Of a report on a shared file: whether another of its blocks has its name still.
  bool shares_file(const BlockReport& report, const BlockKey& key) const;
  // Whether the payloads of so many blocks of it, from number `first` on, are in `buffer` now.
  bool read_packed(const BlockReport& report, size_t first, size_t count, std::byte* buffer) const;
  // Whether such a payload is what was dumped.
  bool sound_packed(const BlockReport& report, size_t number, const std::byte* payload);
  Status remove(const BlockKey& key);
  // Marks the block for the collectors, or takes the mark away. 1: it is marked now.
  Result<uint8_t> mark_pinned(const BlockKey& key, bool pinned);

  // A block was removed for space.
  void note_evicted(const BlockKey& key) { presence_.forget(key); }
  // A block was loaded: at most once a minute its file is marked as used at `unix_ns`.
  void note_use(const BlockReport& report, int64_t unix_ns) const;
  // Whether that is due.
  bool notes_use(const BlockReport& report, int64_t unix_ns) const;

  const BlockLayout& layout() const { return layout_; }
  BlockBooks& books() { return books_; }
  size_t buffer_bytes() const { return file_bytes(layout_.block_bytes()); }

 private:
  BlockSet(const PosixOptions& options, const BlockLayout& layout, bool read_only,
           std::shared_ptr<StageMetrics> metrics);

  size_t home(const BlockKey& key) const { return mix(key) % roots_.size(); }
  BlockRoot& root(size_t home, size_t step) { return *roots_[(home + step) % roots_.size()]; }
  bool check_payload();
  // Whether a block that the page cache does not have is read for the first time, as far as is
  // remembered. From the second time on it is worth a place there.
  bool first_read(const BlockKey& key);
  bool right_size(uint64_t bytes) const;
  // What a report means for a load; keeps the books on blocks that were dropped.
  Status judge(const BlockKey& key, const BlockRoot& root, const BlockReport& report);
  Status read_once(const BlockKey& key, std::byte* buffer, BlockReport* report);
  Result<bool> write_once(const BlockKey& key, const BlockImage& image, int64_t modified_ns,
                          const std::function<bool()>& wanted, size_t first);
  template <typename Call>
  auto retry(Clock::time_point deadline, Call call) -> decltype(call());

  const PosixOptions options_;
  const BlockLayout layout_;
  const bool read_only_;
  const std::shared_ptr<StageMetrics> metrics_;
  BlockBooks books_;
  PresenceTable presence_;
  std::vector<std::unique_ptr<BlockRoot>> roots_;
  std::atomic<uint32_t> next_root_{0};
  std::atomic<uint32_t> reads_{0};
  std::mutex first_reads_mutex_;
  base::SecondUse first_reads_;
};

}  // namespace ucm::posix
