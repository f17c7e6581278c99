// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_pack.h"

#include <sys/uio.h>

#include <algorithm>
#include <cstring>

namespace ucm::posix {
namespace {

constexpr char kPackMagic[8] = {'U', 'C', 'M', 'P', 'A', 'C', 'K', 'S'};
constexpr size_t kPackCheckAt = kTrailerBytes - sizeof(uint64_t);

struct PackHeader {
  char magic[8];
  uint32_t format;
  uint32_t count;
  uint64_t layout_id;
  uint64_t payload_bytes;
  int64_t written_ns;
  uint64_t reserved;
};
static_assert(sizeof(PackHeader) == 48);
static_assert(sizeof(PackedBlock) == 32);
static_assert(sizeof(PackHeader) + kMaxPackBlocks * sizeof(PackedBlock) <= kPackCheckAt);

}  // namespace

bool is_pack_size(uint64_t bytes, const BlockLayout& layout) {
  const uint64_t slot = layout.slot_bytes();
  if (bytes < 2 * slot + kTrailerBytes || (bytes - kTrailerBytes) % slot != 0) return false;
  return (bytes - kTrailerBytes) / slot <= kMaxPackBlocks;
}

bool is_pack_page(const std::byte* page) {
  return std::memcmp(page, kPackMagic, sizeof kPackMagic) == 0;
}

void encode_pack(const PackPage& pack, std::byte* page) {
  std::memset(page, 0, kTrailerBytes);
  PackHeader header = {};
  std::memcpy(header.magic, kPackMagic, sizeof kPackMagic);
  header.format = kTrailerFormat;
  header.count = static_cast<uint32_t>(pack.blocks.size());
  header.layout_id = pack.layout_id;
  header.payload_bytes = pack.payload_bytes;
  header.written_ns = pack.written_ns;
  std::memcpy(page, &header, sizeof header);
  std::memcpy(page + sizeof header, pack.blocks.data(), pack.blocks.size() * sizeof(PackedBlock));
  const uint64_t check = base::digest_64(page, kPackCheckAt, 0);
  std::memcpy(page + kPackCheckAt, &check, sizeof check);
}

const char* decode_pack(const std::byte* page, PackPage* pack) {
  PackHeader header;
  std::memcpy(&header, page, sizeof header);
  if (!is_pack_page(page)) return "magic";
  if (header.format != kTrailerFormat) return "version";
  uint64_t check = 0;
  std::memcpy(&check, page + kPackCheckAt, sizeof check);
  if (check != base::digest_64(page, kPackCheckAt, 0)) return "trailer";
  const bool sane = header.reserved == 0 && header.count >= 2 && header.count <= kMaxPackBlocks &&
                    header.payload_bytes > 0 && header.payload_bytes <= UINT32_MAX;
  if (!sane) return "trailer";
  const std::byte* end = page + sizeof header + header.count * sizeof(PackedBlock);
  if (std::any_of(end, page + kPackCheckAt, [](std::byte b) { return b != std::byte{0}; })) {
    return "trailer";
  }
  pack->layout_id = header.layout_id;
  pack->payload_bytes = header.payload_bytes;
  pack->written_ns = header.written_ns;
  pack->blocks.resize(header.count);
  std::memcpy(static_cast<void*>(pack->blocks.data()), page + sizeof header,
              header.count * sizeof(PackedBlock));
  return nullptr;
}

Result<PackImage> PackImage::make(const BlockLayout& layout, int64_t written_ns, size_t most) {
  PackImage image;
  image.pack_.layout_id = layout.id();
  image.pack_.payload_bytes = layout.block_bytes();
  image.pack_.written_ns = written_ns;
  image.ends_ = io::AlignedBuffer::make((most + 1) * kTrailerBytes);
  if (!image.ends_) {
    return make_status(Code::out_of_memory, "posix: no memory for the ends of %zu blocks", most);
  }
  image.next_end_ = image.ends_.data();
  return image;
}

void PackImage::add(const BlockKey& key, const Digest& digest, const std::byte* payload) {
  const size_t whole = pack_.payload_bytes / kAlign * kAlign;
  const size_t rest = pack_.payload_bytes - whole;
  pack_.blocks.push_back({key, digest});
  if (whole > 0) parts_.push_back({const_cast<std::byte*>(payload), whole});
  if (rest == 0) return;
  std::memcpy(next_end_, payload + whole, rest);
  std::memset(next_end_ + rest, 0, kAlign - rest);
  parts_.push_back({next_end_, kAlign});
  next_end_ += kAlign;
}

void PackImage::seal() {
  encode_pack(pack_, next_end_);
  parts_.push_back({next_end_, kTrailerBytes});
}

Status PackImage::write(const io::File& file) const { return io::write_at(file, 0, parts_); }

}  // namespace ucm::posix
