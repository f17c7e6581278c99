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
  return PageIndex::kHeaderBytes + slots * sizeof(PackedEntry);
}

// The order at open: by publication, or the last use when that is later, then by slot.
uint64_t recency(const PackedEntry& entry, uint32_t slot) {
  return uint64_t{std::max(entry.written(), entry.use())} << 32 | slot;
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
  index->layouts_ = format.layouts;
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
  index->layouts_ = format.layouts;
  index->attach(std::min((index->file_.bytes() - kHeaderBytes) / sizeof(PackedEntry), kMaxSlots));
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
  return file_.reserve(index_bytes(first), count * sizeof(PackedEntry));
}

std::vector<std::pair<uint64_t, uint64_t>> PageIndex::stored_ranges() const {
  const uint64_t stored = (file_.bytes() - kHeaderBytes) / sizeof(PackedEntry);
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (const auto& [first, end] : file_.data_ranges()) {
    if (end <= kHeaderBytes) continue;
    // An entry may begin in one range and end in the next.
    uint64_t from = (std::max(first, kHeaderBytes) - kHeaderBytes) / sizeof(PackedEntry);
    if (!ranges.empty()) from = std::max(from, ranges.back().second);
    const uint64_t to = (end - kHeaderBytes + sizeof(PackedEntry) - 1) / sizeof(PackedEntry);
    if (from < std::min(to, stored)) ranges.emplace_back(from, std::min(to, stored));
  }
  return ranges;
}

uint64_t* PageIndex::fault_of(const PackedEntry& entry, uint32_t slot,
                              const std::function<bool(uint32_t)>& has_space,
                              Recovered* recovered) const {
  if (!entry.unpack(slot, layouts_, seed_, nullptr)) return &recovered->damaged;
  if (slot >= slots_) return &recovered->beyond;
  return has_space(slot) ? nullptr : &recovered->truncated;
}

bool PageIndex::settle_twin(const PackedEntry& entry, Recovered* recovered) {
  const uint32_t twin = table_.find(entry.key());
  if (twin == BucketTable::kNone) return true;
  // After a power loss an old entry of a key can be back beside the one that replaced it.
  ++recovered->damaged;
  if (entries_[twin].load().written() > entry.written()) return false;
  table_.erase(entry.key(), twin);
  entries_[twin].clear();
  return true;
}

void PageIndex::recover(const std::function<bool(uint32_t)>& has_space, Recovered* recovered) {
  std::vector<uint64_t> order;
  for (const auto& [first, end] : stored_ranges()) {
    for (uint64_t i = first; i < end; ++i) {
      const PackedEntry entry = entries_[i].load();
      // The table is as large as a cache: its cells are fetched while earlier entries are checked.
      if (i + kAhead < end) table_.prefetch(table_.start(entries_[i + kAhead].key()));
      if (entry.free()) continue;
      const auto slot = static_cast<uint32_t>(i);
      uint64_t* fault = fault_of(entry, slot, has_space, recovered);
      if (fault || !settle_twin(entry, recovered)) {
        if (fault) ++*fault;
        entries_[i].clear();
        continue;
      }
      table_.insert(entry.key(), slot);
      order.push_back(recency(entry, slot));
    }
  }
  if (!std::is_sorted(order.begin(), order.end())) std::sort(order.begin(), order.end());
  recovered->slots.reserve(order.size());
  for (const uint64_t each : order) {
    const auto slot = static_cast<uint32_t>(each);
    // A twin that lost is in the order still.
    if (entries_[slot].load().written() != 0) recovered->slots.push_back(slot);
  }
}

bool PageIndex::entry(uint32_t slot, IndexEntry* entry) const {
  return slot < slots_ && entries_[slot].load().unpack(slot, layouts_, seed_, entry);
}

bool PageIndex::find(const BlockKey& key, IndexEntry* found) const {
  const uint32_t slot = table_.find(key);
  return slot != BucketTable::kNone && entry(slot, found) && found->key == key;
}

bool PageIndex::holds(uint32_t slot, const BlockKey& key, uint32_t length, uint8_t layout) const {
  const PackedEntry entry = entries_[slot].load();
  return entry.key() == key && layouts_fit(entry.layout(), layout) &&
         (length == 0 || length == entry.length()) && entry.unpack(slot, layouts_, seed_, nullptr);
}

void PageIndex::lookup(std::span<const BlockKey> keys, Wanted wanted,
                       std::span<uint8_t> present) const {
  // Two memory latencies per key, overlapped over a group: first the cells, then the entries.
  BucketTable::Probe probes[kGroup];
  uint32_t candidates[kGroup];
  const uint8_t layout = layout_number(layouts_, wanted.layout_id);
  for (size_t base = 0; base < keys.size(); base += kGroup) {
    const size_t count = std::min(kGroup, keys.size() - base);
    const uint64_t shifts = table_.shifts();
    for (size_t i = 0; i < count; ++i) {
      probes[i] = table_.start(keys[base + i]);
      table_.prefetch(probes[i]);
    }
    for (size_t i = 0; i < count; ++i) {
      uint64_t steps = 0;
      candidates[i] = table_.next(&probes[i], &steps);
      if (candidates[i] != BucketTable::kNone) entries_[candidates[i]].prefetch();
    }
    const bool moved = shifts % 2 != 0 || table_.shifts() != shifts;
    for (size_t i = 0; i < count; ++i) {
      const BlockKey& key = keys[base + i];
      bool found =
          candidates[i] != BucketTable::kNone && holds(candidates[i], key, wanted.length, layout);
      if (!found && (moved || candidates[i] != BucketTable::kNone)) {
        // A tag that clashed or a cell that moved: the careful way decides.
        const uint32_t slot = table_.find(key);
        found = slot != BucketTable::kNone && slot != candidates[i] &&
                holds(slot, key, wanted.length, layout);
      }
      present[base + i] = found ? 1 : 0;
    }
  }
}

void PageIndex::publish(const IndexEntry& entry) {
  const uint8_t layout = layout_number(layouts_, entry.layout_id);
  entries_[entry.slot].store(PackedEntry::pack(entry, layout, seed_));
  table_.insert(entry.key, entry.slot);
}

void PageIndex::unpublish(uint32_t slot) {
  table_.erase(entries_[slot].key(), slot);
  entries_[slot].clear();
}

bool PageIndex::outdated() const {
  return header()->generation.load(std::memory_order_acquire) != generation_;
}

}  // namespace ucm::pages
