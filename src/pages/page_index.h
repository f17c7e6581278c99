// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "io/mapped_file.h"
#include "pages/bucket_table.h"
#include "pages/index_entry.h"
#include "pages/store_format.h"
#include "ucm/status.h"

namespace ucm::pages {

// What opening for writing found: the valid slots, least recently used first, and what was
// thrown away.
struct Recovered {
  std::vector<uint32_t> slots;
  uint64_t damaged = 0;    // entries whose check does not fit, or twice the same key
  uint64_t truncated = 0;  // entries whose slot is not in the files any more
  uint64_t beyond = 0;     // entries behind a capacity that became smaller
};

// The mapped index of a page store and the bucket table beside it. Lookups are lock-free and may
// run in any number of threads and processes; the caller makes sure that one thread at a time
// publishes and unpublishes.
class PageIndex {
 public:
  static constexpr uint64_t kHeaderBytes = 4096;

  // Makes, extends or repairs the files and builds the table afresh. `has_space` tells whether a
  // slot lies in an existing segment; entries of the first `reserved_slots` can be written.
  static Result<std::unique_ptr<PageIndex>> open_writable(
      const std::string& path, const StoreFormat& format, unsigned mode, uint64_t reserved_slots,
      const std::function<bool(uint32_t slot)>& has_space, Recovered* recovered);
  // Makes room on the disk for the entries of new slots.
  Status reserve(uint32_t first, uint32_t count) const;
  // unavailable while a writer is about to build the files; corruption when they fit nothing.
  static Result<std::unique_ptr<PageIndex>> open_readable(const std::string& path,
                                                          const StoreFormat& format);
  // Only the entries, for walking; lookups find nothing.
  static Result<std::unique_ptr<PageIndex>> open_entries(const std::string& path,
                                                         const StoreFormat& format);

  // Only blocks of this layout and length count; 0 stands for any.
  struct Wanted {
    uint64_t layout_id = 0;
    uint32_t length = 0;
  };
  void lookup(std::span<const BlockKey> keys, Wanted wanted, std::span<uint8_t> present) const;
  // The valid entry of a key; false when there is none.
  bool find(const BlockKey& key, IndexEntry* entry) const;
  // The entry of a slot when it is valid.
  bool entry(uint32_t slot, IndexEntry* entry) const;

  // The slot's entry must be free, the key absent and the layout listed in the format.
  void publish(const IndexEntry& entry);
  // The key in a slot that holds a block.
  BlockKey key(uint32_t slot) const { return entries_[slot].key(); }
  void unpublish(uint32_t slot);
  void stamp_use(uint32_t slot, uint32_t use) { entries_[slot].stamp_use(use); }
  Status sync() const { return file_.sync(0, file_.bytes()); }

  uint64_t slots() const { return slots_; }
  // The ranges (first, end) of slots outside of which all entries are free.
  std::vector<std::pair<uint64_t, uint64_t>> stored_ranges() const;
  uint64_t bytes() const { return file_.bytes() + table_file_.bytes(); }
  // A reader's view is over once the writer has built another table or the file was replaced.
  bool outdated() const;
  uint64_t inode() const { return file_.inode(); }

 private:
  struct Header {
    uint64_t magic;
    uint64_t version;
    uint64_t uuid[2];
    uint64_t slots;
    std::atomic<uint64_t> generation;
  };
  PageIndex() = default;
  Header* header() const { return reinterpret_cast<Header*>(file_.data()); }
  void attach(uint64_t slots);
  void recover(const std::function<bool(uint32_t)>& has_space, Recovered* recovered);
  // Why an entry can not be kept: where to count it, or null for one that is fine.
  uint64_t* fault_of(const PackedEntry& entry, uint32_t slot,
                     const std::function<bool(uint32_t)>& has_space, Recovered* recovered) const;
  // Keeps the younger of two entries of one key; false when that is not the one in `slot`.
  bool settle_twin(const PackedEntry& entry, Recovered* recovered);
  // `layout` is the number of the wanted one.
  bool holds(uint32_t slot, const BlockKey& key, uint32_t length, uint8_t layout) const;

  io::MappedFile file_;
  io::MappedFile table_file_;
  SharedEntry* entries_ = nullptr;
  BucketTable table_;
  LayoutList layouts_;
  uint64_t slots_ = 0;
  uint64_t seed_ = 0;
  uint64_t generation_ = 0;
};

}  // namespace ucm::pages
