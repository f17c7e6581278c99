// SPDX-License-Identifier: Apache-2.0
#include "io/aligned_buffer.h"
#include "io/paths.h"
#include "pages/page_index.h"
#include "pages/segments.h"
#include "ucm/layout.h"
#include "ucm/pages.h"

namespace ucm {
namespace {

using pages::IndexEntry;

// Why the payload is not what was written; empty when it is.
std::string damage_of(const IndexEntry& entry, const pages::StoreFormat& format,
                      pages::Segments* segments, const io::AlignedBuffer& buffer) {
  if (entry.length > format.slot_bytes) return "the length is larger than a slot";
  const auto place = segments->locate(entry.slot);
  if (!place.ok()) return place.status().message();
  const io::File& file = *place.value().file;
  const size_t bytes = file.direct() ? align_up(entry.length) : entry.length;
  const auto got = io::read_at(file, place.value().offset, buffer.data(), bytes);
  if (!got.ok()) return got.status().message();
  if (got.value() < entry.length) return "the segment file ends before the block does";
  if (pages::payload_digest(buffer.data(), entry.length, entry.key, format.seed()) !=
      entry.digest) {
    return "the bytes do not fit their checksum";
  }
  return {};
}

}  // namespace

Status walk_pages(const std::string& path, bool verify, const BlockVisitor& visit) {
  UCM_TRY_ASSIGN(const std::string text, io::read_small_file(io::join(path, pages::kFormatName)));
  auto parsed = pages::parse_format(text);
  if (!parsed.ok()) return parsed.status().with_context(io::join(path, pages::kFormatName));
  const pages::StoreFormat& format = parsed.value();
  UCM_TRY_ASSIGN(const auto index, pages::PageIndex::open_entries(path, format));
  pages::Segments segments(path, format, true, false, 0600);
  const io::AlignedBuffer buffer = io::AlignedBuffer::make(verify ? format.slot_bytes : 1);
  if (!buffer) return make_status(Code::out_of_memory, "no memory to read a block");
  std::vector<uint32_t> slots;
  for (const auto& [first, end] : index->stored_ranges()) {
    for (uint64_t slot = first; slot < end; ++slot) slots.push_back(static_cast<uint32_t>(slot));
  }
  for (const uint32_t slot : slots) {
    IndexEntry entry;
    if (!index->entry(slot, &entry)) continue;
    BlockRecord record;
    record.key = entry.key;
    record.stage = "Disk";
    record.location = io::join(path, segments.file_name(slot)) + " slot " + std::to_string(slot);
    record.bytes = entry.length;
    record.layout_id = entry.layout_id;
    record.written_ns = static_cast<int64_t>(pages::stamp_ns(entry.written));
    if (verify) {
      record.damage = damage_of(entry, format, &segments, buffer);
      record.damaged = !record.damage.empty();
      IndexEntry now;
      if (record.damaged && !(index->entry(slot, &now) && now == entry)) continue;
    }
    if (!visit(record)) break;
  }
  return {};
}

}  // namespace ucm
