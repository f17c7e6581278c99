// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_block_file.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>

#include "base/checksum.h"
#include "io/direct.h"
#include "io/page_cache.h"
#include "stages/posix/posix_calls.h"
#include "stages/posix/posix_pack.h"

namespace ucm::posix {
namespace {

// Opens the file and looks at its size; `finding` stays sound when there is more to check.
Result<BlockReport> open_block(const std::string& path, bool direct) {
  BlockReport report;
  auto opened = io::open_direct(path, O_RDONLY, 0, direct);
  if (!opened.ok()) {
    if (opened.status().code() == Code::not_found) return report;
    return opened.status();
  }
  report.file = std::move(opened).value();
  UCM_TRY_ASSIGN(report.info, file_info(report.file));
  report.finding = Finding::sound;
  if (!report.info.is_file) {
    report.finding = Finding::damaged;
    report.cause = "type";
  } else if (report.info.bytes < 2 * kAlign || report.info.bytes % kAlign != 0) {
    report.finding = Finding::damaged;
    report.cause = "size";
  }
  return report;
}

void set_finding(BlockReport* report, Finding finding, const char* cause) {
  report->finding = finding;
  report->cause = cause;
}

void judge_trailer(const std::byte* page, const BlockKey& key, const BlockLayout& layout,
                   BlockReport* report) {
  if (const char* cause = decode_trailer(page, &report->trailer)) {
    return set_finding(report, Finding::damaged, cause);
  }
  const Trailer& trailer = report->trailer;
  if (!(trailer.key == key)) return set_finding(report, Finding::damaged, "key");
  if (file_bytes(trailer.payload_bytes) != report->info.bytes) {
    return set_finding(report, Finding::damaged, "length");
  }
  if (layout.empty()) return;
  if (trailer.payload_bytes != layout.block_bytes() ||
      (layout.id() != 0 && trailer.layout_id != layout.id())) {
    set_finding(report, Finding::other_layout, "layout");
  }
}

void judge_pack(const std::byte* page, const BlockKey& key, const BlockLayout& layout,
                BlockReport* report) {
  const auto decoded = std::make_shared<PackPage>();
  if (const char* cause = decode_pack(page, decoded.get())) {
    return set_finding(report, Finding::damaged, cause);
  }
  const PackPage& pack = *decoded;
  if (pack.file_bytes() != report->info.bytes) {
    return set_finding(report, Finding::damaged, "length");
  }
  const auto block = std::find_if(pack.blocks.begin(), pack.blocks.end(),
                                  [&](const PackedBlock& one) { return one.key == key; });
  if (block == pack.blocks.end()) return set_finding(report, Finding::damaged, "key");
  report->trailer = {.key = key,
                     .layout_id = pack.layout_id,
                     .payload_bytes = pack.payload_bytes,
                     .digest = block->digest,
                     .written_ns = pack.written_ns};
  report->payload_offset =
      static_cast<uint64_t>(block - pack.blocks.begin()) * align_up(pack.payload_bytes);
  report->pack = decoded;
  if (layout.empty()) return;
  if (pack.payload_bytes != layout.block_bytes() ||
      (layout.id() != 0 && pack.layout_id != layout.id())) {
    set_finding(report, Finding::other_layout, "layout");
  }
}

// A file that ends before its size said so was cut while it was read.
Result<bool> read_whole(BlockReport* report, uint64_t offset, std::byte* buffer, size_t bytes) {
  UCM_TRY_ASSIGN(const size_t got, io::read_at(report->file, offset, buffer, bytes));
  if (got == bytes) return true;
  set_finding(report, Finding::damaged, "size");
  return false;
}

// Its last page stands for the whole file.
bool has_cached_end(const BlockReport& report, std::byte* page) {
  return io::read_cached(report.file, report.info.bytes - kTrailerBytes, page, kTrailerBytes);
}

Result<BlockReport> judge_last_page(BlockReport report, const BlockKey& key,
                                    const BlockLayout& layout) {
  const io::AlignedBuffer page = io::AlignedBuffer::make(kTrailerBytes);
  if (!page) return make_status(Code::out_of_memory, "posix: no memory to check a block");
  UCM_TRY_ASSIGN(const bool whole, read_whole(&report, report.info.bytes - kTrailerBytes,
                                              page.data(), kTrailerBytes));
  if (!whole) return report;
  if (is_pack_page(page.data())) {
    judge_pack(page.data(), key, layout, &report);
    return report;
  }
  judge_trailer(page.data(), key, layout, &report);
  // The trailer tells a block of another size from one that was cut or grew.
  const bool right_size = layout.empty() || report.info.bytes == file_bytes(layout.block_bytes());
  if (!right_size && report.finding != Finding::other_layout) {
    set_finding(&report, Finding::damaged, "size");
  }
  return report;
}

}  // namespace

const char* judge_payload(const std::byte* payload, uint64_t payload_bytes, const Digest* digest) {
  if (digest != nullptr && base::digest_128(payload, payload_bytes, kPayloadSeed) != *digest) {
    return "checksum";
  }
  const bool padded = std::all_of(payload + payload_bytes, payload + align_up(payload_bytes),
                                  [](std::byte b) { return b == std::byte{0}; });
  return padded ? nullptr : "padding";
}

Result<BlockReport> read_block_file(const std::string& path, const BlockKey& key,
                                    const BlockLayout& layout, bool direct, bool check_payload,
                                    std::byte* buffer, const std::function<bool()>* skip_cache) {
  UCM_TRY_ASSIGN(BlockReport report, open_block(path, direct));
  if (report.finding != Finding::sound) return report;
  if (skip_cache != nullptr && !has_cached_end(report, buffer) && (*skip_cache)()) {
    static_cast<void>(report.file.pass_cache());
  }
  const size_t payload_bytes = layout.block_bytes();
  const size_t slot_bytes = layout.slot_bytes();
  if (report.info.bytes == file_bytes(payload_bytes)) {
    UCM_TRY_ASSIGN(const bool whole, read_whole(&report, 0, buffer, slot_bytes + kTrailerBytes));
    if (!whole) return report;
    const std::byte* page = buffer + slot_bytes;
    (is_pack_page(page) ? judge_pack : judge_trailer)(page, key, layout, &report);
    if (report.finding != Finding::sound) return report;
  } else {
    UCM_TRY_ASSIGN(report, judge_last_page(std::move(report), key, layout));
    if (report.finding != Finding::sound) return report;
    UCM_TRY_ASSIGN(const bool whole,
                   read_whole(&report, report.payload_offset, buffer, slot_bytes));
    if (!whole) return report;
  }
  const char* cause =
      judge_payload(buffer, payload_bytes, check_payload ? &report.trailer.digest : nullptr);
  if (cause != nullptr) set_finding(&report, Finding::damaged, cause);
  return report;
}

bool read_cached_block(const std::string& path, const BlockKey& key, const BlockLayout& layout,
                       std::byte* payload, BlockReport* report) {
  report->file = io::File::open_cached(path);
  if (!report->file) return false;
  auto info = file_info(report->file);
  if (!info.ok() || !info.value().is_file || info.value().bytes < 2 * kAlign) return false;
  report->info = info.value();
  report->finding = Finding::sound;
  alignas(8) std::byte page[kTrailerBytes];
  if (!has_cached_end(*report, page)) return false;
  (is_pack_page(page) ? judge_pack : judge_trailer)(page, key, layout, report);
  return report->finding == Finding::sound &&
         io::read_cached(report->file, report->payload_offset, payload, layout.slot_bytes());
}

Result<BlockReport> examine_block_file(const std::string& path, const BlockKey& key,
                                       const BlockLayout& layout) {
  UCM_TRY_ASSIGN(BlockReport report, open_block(path, false));
  if (report.finding != Finding::sound) return report;
  return judge_last_page(std::move(report), key, layout);
}

Result<BlockImage> BlockImage::make(const BlockKey& key, const BlockLayout& layout,
                                    const std::byte* payload, const Digest* known,
                                    int64_t written_ns) {
  const size_t payload_bytes = layout.block_bytes();
  BlockImage image;
  image.payload_ = payload;
  image.head_bytes_ = payload_bytes / kAlign * kAlign;
  const size_t rest = payload_bytes - image.head_bytes_;
  image.tail_ = io::AlignedBuffer::make(align_up(rest) + kTrailerBytes);
  if (!image.tail_) {
    return make_status(Code::out_of_memory, "posix: no memory for the end of a block");
  }
  std::byte* tail = image.tail_.data();
  std::memset(tail, 0, image.tail_.bytes());
  std::memcpy(tail, payload + image.head_bytes_, rest);
  Trailer trailer;
  trailer.key = key;
  trailer.layout_id = layout.id();
  trailer.payload_bytes = payload_bytes;
  trailer.digest = known ? *known : base::digest_128(payload, payload_bytes, kPayloadSeed);
  trailer.written_ns = written_ns;
  encode_trailer(trailer, tail + align_up(rest));
  return image;
}

Status BlockImage::write(const io::File& file) const {
  const iovec parts[2] = {{const_cast<std::byte*>(payload_), head_bytes_},
                          {tail_.data(), tail_.bytes()}};
  return io::write_at(file, 0, parts);
}

}  // namespace ucm::posix
