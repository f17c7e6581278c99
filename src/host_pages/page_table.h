// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ucm/host_pages.h"

namespace ucm::host_pages {

enum class PageState : uint32_t { empty, loading, ready, lost };

// What one page is. The records are the truth; lists and buckets are derived from them.
struct PageRecord {
  BlockKey key;
  std::atomic<PageState> state;
  std::atomic<int32_t> references;
  int32_t chain;  // next page of the bucket
  int32_t newer;  // neighbours in the list of pages without references
  int32_t older;
  uint32_t owner;  // member that fills it
  int64_t stamp;   // position in that list
};
static_assert(sizeof(PageRecord) == 48 && std::atomic<PageState>::is_always_lock_free);

struct TableCounters {
  uint64_t asked, found, filled, evicted, refused, recycled, offload_pages, offload_dropped;
  uint64_t misused, repairs, engine_loads, engine_dumps;
};

struct TableHead {
  uint32_t pages;
  uint32_t buckets;  // a power of two
  uint32_t queue_cells;
  int32_t oldest, newest;
  int64_t first_stamp, last_stamp;
  uint64_t queue_front, queue_back;  // cells taken and put since creation
  TableCounters counters;
};

// The index over a span of shared memory, without its lock: the caller holds that, except for
// `all_ready` and `view`. Every change is ordered such that a process may die between any two
// stores: `repair` then makes lists and buckets again from the records, and no page ever stands
// under a key whose content it does not hold.
class PageTable {
 public:
  using Alive = std::function<bool(uint32_t member)>;

  static size_t bytes(uint32_t pages);
  static void prepare(std::byte* memory, uint32_t pages);

  PageTable(std::byte* memory, uint32_t self, Alive alive);

  int32_t find(const BlockKey& key) const;
  HostPages::Allocation allocate(const BlockKey& key);
  int32_t query(const BlockKey& key);
  void mark_ready(std::span<const int32_t> pages, bool release, bool offload);
  void release(std::span<const int32_t> pages);
  std::vector<std::vector<int32_t>> take_offloads();
  void repair();
  void count_transfer(Direction direction, uint64_t pages);
  HostPagesStats stats() const;

  uint32_t pages() const { return head_->pages; }
  bool all_ready(std::span<const int32_t> pages) const;
  HostPages::PageView view(int32_t page) const;

 private:
  PageRecord& at(int32_t page) const { return records_[page]; }
  int32_t& bucket_of(const BlockKey& key) const;
  void index(int32_t page);
  void forget(int32_t page);
  void append(int32_t page);
  void prepend(int32_t page);
  void link_last(int32_t page);
  void unlink(int32_t page);
  void add_reference(int32_t page);
  void drop_reference(int32_t page);
  // Whether nobody will ever fill a loading page; it then leaves the index for good.
  bool abandoned(int32_t page);
  void enqueue(std::span<const int32_t> group);
  void rebuild_lists();
  void check_queue();

  TableHead* const head_;
  PageRecord* const records_;
  int32_t* const buckets_;
  int32_t* const queue_;
  const uint32_t self_;
  const Alive alive_;
};

}  // namespace ucm::host_pages
