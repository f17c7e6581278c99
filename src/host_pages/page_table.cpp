// SPDX-License-Identifier: Apache-2.0
#include "host_pages/page_table.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

#include "ucm/layout.h"

namespace ucm::host_pages {
namespace {

constexpr int32_t kNone = HostPages::kNone;
constexpr size_t kHeadBytes = 256;
static_assert(sizeof(TableHead) <= kHeadBytes);

uint32_t bucket_count(uint32_t pages) { return std::bit_ceil(std::max(16u, pages * 2)); }

// Groups of pages with their lengths in front. Several requests may queue the same pages while the
// next level is slow; beyond this the newest group is left out.
uint32_t queue_cells(uint32_t pages) { return pages * 4 + 64; }

}  // namespace

size_t PageTable::bytes(uint32_t pages) {
  return kHeadBytes + sizeof(PageRecord) * pages +
         sizeof(int32_t) * (size_t{bucket_count(pages)} + queue_cells(pages));
}

void PageTable::prepare(std::byte* memory, uint32_t pages) {
  auto* head = new (memory) TableHead{};
  head->pages = pages;
  head->buckets = bucket_count(pages);
  head->queue_cells = queue_cells(pages);
  PageTable table(memory, 0, [](uint32_t) { return true; });
  for (uint32_t i = 0; i < pages; ++i) new (&table.records_[i]) PageRecord{};
  table.rebuild_lists();
}

PageTable::PageTable(std::byte* memory, uint32_t self, Alive alive)
    : head_(reinterpret_cast<TableHead*>(memory)),
      records_(reinterpret_cast<PageRecord*>(memory + kHeadBytes)),
      buckets_(reinterpret_cast<int32_t*>(records_ + head_->pages)),
      queue_(buckets_ + head_->buckets),
      self_(self),
      alive_(std::move(alive)) {}

int32_t& PageTable::bucket_of(const BlockKey& key) const {
  return buckets_[mix(key) & (head_->buckets - 1)];
}

int32_t PageTable::find(const BlockKey& key) const {
  int32_t page = bucket_of(key);
  while (page != kNone && !(at(page).key == key)) page = at(page).chain;
  return page;
}

void PageTable::index(int32_t page) {
  int32_t& first = bucket_of(at(page).key);
  at(page).chain = first;
  first = page;
}

void PageTable::forget(int32_t page) {
  int32_t* link = &bucket_of(at(page).key);
  while (*link != kNone && *link != page) link = &at(*link).chain;
  if (*link == page) *link = at(page).chain;
}

void PageTable::append(int32_t page) {
  at(page).stamp = ++head_->last_stamp;
  link_last(page);
}

void PageTable::link_last(int32_t page) {
  PageRecord& record = at(page);
  record.newer = kNone;
  record.older = head_->newest;
  (head_->newest == kNone ? head_->oldest : at(head_->newest).newer) = page;
  head_->newest = page;
}

void PageTable::prepend(int32_t page) {
  PageRecord& record = at(page);
  record.stamp = --head_->first_stamp;
  record.older = kNone;
  record.newer = head_->oldest;
  (head_->oldest == kNone ? head_->newest : at(head_->oldest).older) = page;
  head_->oldest = page;
}

void PageTable::unlink(int32_t page) {
  const PageRecord& record = at(page);
  (record.older == kNone ? head_->oldest : at(record.older).newer) = record.newer;
  (record.newer == kNone ? head_->newest : at(record.newer).older) = record.older;
}

void PageTable::add_reference(int32_t page) {
  if (at(page).references.fetch_add(1, std::memory_order_acq_rel) == 0) unlink(page);
}

void PageTable::drop_reference(int32_t page) {
  PageRecord& record = at(page);
  if (record.references.load(std::memory_order_relaxed) <= 0) {
    ++head_->counters.misused;
    return;
  }
  // A page that was never filled must not be found again, so it leaves its key first.
  const bool last = record.references.load(std::memory_order_relaxed) == 1;
  if (last && record.state.load(std::memory_order_relaxed) == PageState::loading) {
    forget(page);
    record.state.store(PageState::empty, std::memory_order_release);
    ++head_->counters.recycled;
  }
  record.references.fetch_sub(1, std::memory_order_acq_rel);
  if (!last) return;
  switch (record.state.load(std::memory_order_relaxed)) {
    case PageState::empty:
      return prepend(page);
    case PageState::ready:
      return append(page);
    default:
      return;  // a lost page: somebody may write to it still, so it stays out of use
  }
}

bool PageTable::abandoned(int32_t page) {
  PageRecord& record = at(page);
  if (record.state.load(std::memory_order_relaxed) != PageState::loading) return false;
  if (record.owner == self_ || alive_(record.owner)) return false;
  forget(page);
  record.state.store(PageState::lost, std::memory_order_release);
  return true;
}

HostPages::Allocation PageTable::allocate(const BlockKey& key) {
  ++head_->counters.asked;
  int32_t page = find(key);
  if (page != kNone && !abandoned(page)) {
    add_reference(page);
    const bool ready = at(page).state.load(std::memory_order_relaxed) == PageState::ready;
    head_->counters.found += ready ? 1 : 0;
    return {page, ready};
  }
  page = head_->oldest;
  if (page == kNone) {
    ++head_->counters.refused;
    return {};
  }
  PageRecord& record = at(page);
  unlink(page);
  if (record.state.load(std::memory_order_relaxed) != PageState::empty) {
    forget(page);
    // First empty, then another key: no moment shows the old bytes under the next key.
    record.state.store(PageState::empty, std::memory_order_release);
    ++head_->counters.evicted;
  }
  record.key = key;
  record.owner = self_;
  record.references.store(1, std::memory_order_relaxed);
  record.state.store(PageState::loading, std::memory_order_release);
  index(page);
  return {page, false};
}

int32_t PageTable::query(const BlockKey& key) {
  ++head_->counters.asked;
  const int32_t page = find(key);
  if (page == kNone || at(page).state.load(std::memory_order_relaxed) != PageState::ready) {
    return kNone;
  }
  add_reference(page);
  ++head_->counters.found;
  return page;
}

void PageTable::mark_ready(std::span<const int32_t> pages, bool release, bool offload) {
  for (const int32_t page : pages) {
    if (page == kNone || at(page).state.load(std::memory_order_relaxed) != PageState::loading) {
      continue;
    }
    at(page).state.store(PageState::ready, std::memory_order_release);
    ++head_->counters.filled;
  }
  if (offload) enqueue(pages.first(std::ranges::find(pages, kNone) - pages.begin()));
  if (release) this->release(pages);
}

void PageTable::release(std::span<const int32_t> pages) {
  for (const int32_t page : pages) {
    if (page != kNone) drop_reference(page);
  }
}

void PageTable::enqueue(std::span<const int32_t> group) {
  const uint64_t used = head_->queue_back - head_->queue_front;
  const auto all_filled = std::ranges::all_of(group, [this](int32_t page) {
    return at(page).state.load(std::memory_order_relaxed) == PageState::ready;
  });
  if (group.empty()) return;
  if (!all_filled || used + group.size() + 1 > head_->queue_cells) {
    head_->counters.offload_dropped += group.size();
    return;
  }
  uint64_t cell = head_->queue_back;
  queue_[cell++ % head_->queue_cells] = static_cast<int32_t>(group.size());
  for (const int32_t page : group) {
    add_reference(page);
    queue_[cell++ % head_->queue_cells] = page;
  }
  head_->queue_back = cell;
  head_->counters.offload_pages += group.size();
}

std::vector<std::vector<int32_t>> PageTable::take_offloads() {
  std::vector<std::vector<int32_t>> groups;
  uint64_t cell = head_->queue_front;
  while (cell != head_->queue_back) {
    const int32_t count = queue_[cell++ % head_->queue_cells];
    std::vector<int32_t>& group = groups.emplace_back();
    for (int32_t i = 0; i < count; ++i) group.push_back(queue_[cell++ % head_->queue_cells]);
  }
  head_->queue_front = cell;
  return groups;
}

bool PageTable::all_ready(std::span<const int32_t> pages) const {
  return std::ranges::all_of(pages, [this](int32_t page) {
    return page == kNone || at(page).state.load(std::memory_order_acquire) == PageState::ready;
  });
}

HostPages::PageView PageTable::view(int32_t page) const {
  const PageRecord& record = at(page);
  return {record.key, static_cast<uint32_t>(record.state.load(std::memory_order_acquire)),
          record.references.load(std::memory_order_relaxed)};
}

void PageTable::repair() {
  ++head_->counters.repairs;
  for (uint32_t i = 0; i < head_->pages; ++i) {
    PageRecord& record = records_[i];
    // Died while it took the page: the reference was never handed out.
    if (record.state.load(std::memory_order_relaxed) == PageState::empty) {
      record.references.store(0, std::memory_order_relaxed);
    }
  }
  rebuild_lists();
  check_queue();
}

void PageTable::rebuild_lists() {
  std::fill_n(buckets_, head_->buckets, kNone);
  head_->oldest = head_->newest = kNone;
  std::vector<int32_t> idle;
  for (int32_t page = 0; page < static_cast<int32_t>(head_->pages); ++page) {
    const PageState state = at(page).state.load(std::memory_order_relaxed);
    const bool keyed = state == PageState::loading || state == PageState::ready;
    if (keyed) index(page);
    const bool unused = at(page).references.load(std::memory_order_relaxed) == 0;
    if (unused && state != PageState::lost) idle.push_back(page);
  }
  std::ranges::stable_sort(idle, {}, [this](int32_t page) { return at(page).stamp; });
  for (const int32_t page : idle) link_last(page);
}

void PageTable::check_queue() {
  uint64_t cell = head_->queue_front;
  const auto next = [&] { return queue_[cell++ % head_->queue_cells]; };
  bool sound = head_->queue_back - cell <= head_->queue_cells;
  while (sound && cell != head_->queue_back) {
    const int32_t count = next();
    sound = count > 0 && static_cast<uint64_t>(count) <= head_->queue_back - cell;
    for (int32_t i = 0; sound && i < count; ++i) {
      sound = static_cast<uint32_t>(next()) < head_->pages;
    }
  }
  if (!sound) head_->queue_front = head_->queue_back;
}

void PageTable::count_transfer(Direction direction, uint64_t pages) {
  TableCounters& c = head_->counters;
  (direction == Direction::load ? c.engine_loads : c.engine_dumps) += pages;
}

HostPagesStats PageTable::stats() const {
  const TableCounters& c = head_->counters;
  HostPagesStats out;
  out.pages = head_->pages;
  for (uint32_t i = 0; i < head_->pages; ++i) {
    const PageState state = records_[i].state.load(std::memory_order_relaxed);
    out.empty += state == PageState::empty;
    out.loading += state == PageState::loading;
    out.ready += state == PageState::ready;
    out.lost += state == PageState::lost;
    out.referenced += records_[i].references.load(std::memory_order_relaxed) > 0;
  }
  out.asked = c.asked;
  out.found = c.found;
  out.filled = c.filled;
  out.evicted = c.evicted;
  out.refused = c.refused;
  out.recycled = c.recycled;
  out.offload_pages = c.offload_pages;
  out.offload_dropped = c.offload_dropped;
  out.offload_waiting = head_->queue_back - head_->queue_front;
  out.misused = c.misused;
  out.repairs = c.repairs;
  out.engine_loads = c.engine_loads;
  out.engine_dumps = c.engine_dumps;
  return out;
}

}  // namespace ucm::host_pages
