// SPDX-License-Identifier: Apache-2.0
#include "pages/page_index.h"

#include <algorithm>

#include "io/paths.h"

namespace ucm::pages {
namespace {

constexpr uint64_t kIndexMagic = 0x31584449204D4355ull;  // "UCM IDX1"
constexpr size_t kGroup = 32;
constexpr uint64_t kAhead = 16;

uint64_t index_bytes(uint64_t slots) {
  return PageIndex::kHeaderBytes + slots * sizeof(IndexEntry);
}

// Recency for the order at open: publication, or the last use when that is later.
uint64_t recency(const IndexEntry& entry) {
  return std::max(entry.sequence, kUseEpochNs + entry.use * kUseUnitNs);
}

}  // namespace

void PageIndex::attach(uint64_t slots) {
  slots_ = slots;
  entries_ = reinterpret_cast<SharedEntry*>(file_.data() + kHeaderBytes);
}

Result<std::unique_ptr<PageIndex>> PageIndex::open_writable(
    const std::string& path, const StoreFormat& format, unsigned mode, uint64_t reserved_slots,
    const std::function<bool(uint32_t)>& has_space, Recovered* recovered) {
  std::unique_ptr<PageIndex> index(new PageIndex);
  UCM_TRY_ASSIGN(index->file_, io::MappedFile::open_writable(io::join(path, kIndexName),
                                                             index_bytes(format.capacity_slots),
                                                             index_bytes(reserved_slots), mode));
  index->seed_ = format.seed();
  index->attach(format.capacity_slots);
  Header* header = index->header();
  index->generation_ = header->generation.load(std::memory_order_relaxed) + 1;

  // A table of the right size is built in place, so that a full disk does not keep a store closed;
  // readers that still use it see misses at worst. Another size is built aside.
  const std::string table_path = io::join(path, kTableName);
  const uint64_t table_bytes = BucketTable::bytes_for(index->slots_);
  const auto info = io::path_info(table_path);
  const bool in_place = info.ok() && info.value().is_file && info.value().bytes == table_bytes;
  const std::string building = in_place ? table_path : table_path + ".t";
  if (!in_place) {
    const Status gone = io::unlink_file(building);
    if (!gone.ok() && gone.code() != Code::not_found) return gone;
  }
  UCM_TRY_ASSIGN(index->table_file_,
                 io::MappedFile::open_writable(building, table_bytes, table_bytes, mode));
  index->table_ = BucketTable(index->table_file_.data(), index->slots_, index->entries_);
  index->table_.reset(index->generation_, !in_place);
  index->recover(has_space, recovered);
  if (!in_place) UCM_TRY(io::rename_path(building, table_path));

  header->magic = kIndexMagic;
  header->version = kFormatVersion;
  header->uuid[0] = format.uuid[0];
  header->uuid[1] = format.uuid[1];
  header->slots = index->slots_;
  header->generation.store(index->generation_, std::memory_order_release);
  return index;
}

Result<std::unique_ptr<PageIndex>> PageIndex::open_entries(const std::string& path,
                                                           const StoreFormat& format) {
  std::unique_ptr<PageIndex> index(new PageIndex);
  UCM_TRY_ASSIGN(index->file_,
                 io::MappedFile::open_readable(io::join(path, kIndexName), kHeaderBytes));
  index->seed_ = format.seed();
  index->attach(std::min((index->file_.bytes() - kHeaderBytes) / sizeof(IndexEntry), kMaxSlots));
  return index;
}

Result<std::unique_ptr<PageIndex>> PageIndex::open_readable(const std::string& path,
                                                            const StoreFormat& format) {
  UCM_TRY_ASSIGN(auto index, open_entries(path, format));
  const Header* header = index->header();
  index->generation_ = header->generation.load(std::memory_order_acquire);
  if (header->magic != kIndexMagic || header->version != kFormatVersion ||
      header->uuid[0] != format.uuid[0] || header->uuid[1] != format.uuid[1]) {
    return make_status(Code::corruption, "%s/%s does not belong to %s", path.c_str(), kIndexName,
                       kFormatName);
  }
  const uint64_t slots = header->slots;
  if (slots == 0 || slots > index->slots_) {
    return make_status(Code::corruption, "%s/%s is too short for its %llu slots", path.c_str(),
                       kIndexName, static_cast<unsigned long long>(slots));
  }
  index->attach(slots);
  UCM_TRY_ASSIGN(index->table_file_, io::MappedFile::open_readable(io::join(path, kTableName),
                                                                   BucketTable::bytes_for(slots)));
  index->table_ = BucketTable(index->table_file_.data(), slots, index->entries_);
  if (!index->table_.fits(index->generation_)) {
    return make_status(Code::unavailable, "%s/%s is being built", path.c_str(), kTableName);
  }
  return index;
}

Status PageIndex::reserve(uint32_t first, uint32_t count) const {
  return file_.reserve(index_bytes(first), count * sizeof(IndexEntry));
}

std::vector<std::pair<uint64_t, uint64_t>> PageIndex::stored_ranges() const {
  const uint64_t stored = (file_.bytes() - kHeaderBytes) / sizeof(IndexEntry);
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [first, end] : file_.data_ranges()) {
    if (end <= kHeaderBytes) continue;
    const uint64_t from = (std::max(first, kHeaderBytes) - kHeaderBytes) / sizeof(IndexEntry);
    const uint64_t to = (end - kHeaderBytes + sizeof(IndexEntry) - 1) / sizeof(IndexEntry);
    ranges.emplace_back(from, std::min(to, stored));
  }
  return ranges;
}

uint64_t* PageIndex::fault_of(const IndexEntry& entry, uint32_t slot,
                              const std::function<bool(uint32_t)>& has_space,
                              Recovered* recovered) const {
  if (!entry_valid(entry, slot, seed_)) return &recovered->damaged;
  if (slot >= slots_) return &recovered->beyond;
  return has_space(slot) ? nullptr : &recovered->truncated;
}

bool PageIndex::settle_twin(const IndexEntry& entry, Recovered* recovered) {
  const uint32_t twin = table_.find(entry.key);
  if (twin == BucketTable::kNone) return true;
  // After a power loss an old entry of a key can be back beside the one that replaced it.
  ++recovered->damaged;
  if (entries_[twin].load().sequence > entry.sequence) return false;
  table_.erase(entry.key, twin);
  entries_[twin].store(IndexEntry());
  return true;
}

void PageIndex::recover(const std::function<bool(uint32_t)>& has_space, Recovered* recovered) {
  std::vector<std::pair<uint64_t, uint32_t>> order;
  for (const auto& [first, end] : stored_ranges()) {
    for (uint64_t i = first; i < end; ++i) {
      const IndexEntry entry = entries_[i].load();
      // The table is as large as a cache: its cells are fetched while earlier entries are checked.
      if (i + kAhead < end) table_.prefetch(table_.start(entries_[i + kAhead].key()));
      if (entry.sequence == 0 && entry.check == 0 && entry.key == BlockKey()) continue;
      const auto slot = static_cast<uint32_t>(i);
      uint64_t* fault = fault_of(entry, slot, has_space, recovered);
      if (fault || !settle_twin(entry, recovered)) {
        if (fault) ++*fault;
        entries_[i].store(IndexEntry());
        continue;
      }
      table_.insert(entry.key, slot);
      order.emplace_back(recency(entry), slot);
      recovered->last_sequence = std::max(recovered->last_sequence, entry.sequence);
    }
  }
  if (!std::is_sorted(order.begin(), order.end())) std::sort(order.begin(), order.end());
  recovered->slots.reserve(order.size());
  for (const auto& [when, slot] : order) {
    // A twin that lost is in the order still.
    if (entries_[slot].load().sequence != 0) recovered->slots.push_back(slot);
  }
}

bool PageIndex::entry(uint32_t slot, IndexEntry* entry) const {
  if (slot >= slots_) return false;
  *entry = entries_[slot].load();
  return entry_valid(*entry, slot, seed_);
}

bool PageIndex::find(const BlockKey& key, IndexEntry* found) const {
  const uint32_t slot = table_.find(key);
  return slot != BucketTable::kNone && entry(slot, found) && found->key == key;
}

bool PageIndex::holds(uint32_t slot, const BlockKey& key, Wanted wanted) const {
  const IndexEntry entry = entries_[slot].load();
  return entry.key == key && layouts_fit(entry.layout_id, wanted.layout_id) &&
         (wanted.length == 0 || wanted.length == entry.length) && entry_valid(entry, slot, seed_);
}

void PageIndex::lookup(std::span<const BlockKey> keys, Wanted wanted,
                       std::span<uint8_t> present) const {
  // Two memory latencies per key, overlapped over a group: first the cells, then the entries.
  BucketTable::Probe probes[kGroup];
  uint32_t candidates[kGroup];
  for (size_t base = 0; base < keys.size(); base += kGroup) {
    const size_t count = std::min(kGroup, keys.size() - base);
    for (size_t i = 0; i < count; ++i) {
      probes[i] = table_.start(keys[base + i]);
      table_.prefetch(probes[i]);
    }
    for (size_t i = 0; i < count; ++i) {
      uint64_t steps = 0;
      candidates[i] = table_.next(&probes[i], &steps);
      if (candidates[i] != BucketTable::kNone) __builtin_prefetch(&entries_[candidates[i]]);
    }
    for (size_t i = 0; i < count; ++i) {
      const BlockKey& key = keys[base + i];
      bool found = candidates[i] != BucketTable::kNone && holds(candidates[i], key, wanted);
      if (!found) {
        // A tag that clashed, a cell that moved, or a miss: the careful way decides.
        const uint32_t slot = table_.find(key);
        found = slot != BucketTable::kNone && slot != candidates[i] && holds(slot, key, wanted);
      }
      present[base + i] = found ? 1 : 0;
    }
  }
}

void PageIndex::publish(IndexEntry entry) {
  entry.check = entry_check(entry, seed_);
  entries_[entry.slot].store(entry);
  table_.insert(entry.key, entry.slot);
}

void PageIndex::unpublish(uint32_t slot) {
  table_.erase(entries_[slot].key(), slot);
  entries_[slot].store(IndexEntry());
}

bool PageIndex::outdated() const {
  return header()->generation.load(std::memory_order_acquire) != generation_;
}

}  // namespace ucm::pages
