// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_trailer.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ucm::posix {
namespace {

// Fields are stored as the machine has them; every supported machine is little-endian.
static_assert(std::endian::native == std::endian::little);

constexpr char kMagic[8] = {'U', 'C', 'M', 'B', 'L', 'O', 'C', 'K'};
constexpr size_t kCheckOffset = kTrailerBytes - sizeof(uint64_t);

struct TrailerPage {
  char magic[8];
  uint32_t format;
  uint32_t reserved_0;
  uint64_t key_low;
  uint64_t key_high;
  uint64_t layout_id;
  uint64_t payload_bytes;
  uint32_t rank;
  uint32_t ranks;
  uint64_t digest_low;
  uint64_t digest_high;
  int64_t written_ns;
};
static_assert(sizeof(TrailerPage) == 80);

bool all_zero(const std::byte* from, const std::byte* to) {
  return std::all_of(from, to, [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

void encode_trailer(const Trailer& trailer, std::byte* page) {
  std::memset(page, 0, kTrailerBytes);
  TrailerPage fields = {};
  std::memcpy(fields.magic, kMagic, sizeof kMagic);
  fields.format = kTrailerFormat;
  fields.key_low = trailer.key.low;
  fields.key_high = trailer.key.high;
  fields.layout_id = trailer.layout_id;
  fields.payload_bytes = trailer.payload_bytes;
  fields.rank = trailer.rank;
  fields.ranks = trailer.ranks;
  fields.digest_low = trailer.digest.low;
  fields.digest_high = trailer.digest.high;
  fields.written_ns = trailer.written_ns;
  std::memcpy(page, &fields, sizeof fields);
  const uint64_t check = base::digest_64(page, kCheckOffset, 0);
  std::memcpy(page + kCheckOffset, &check, sizeof check);
}

const char* decode_trailer(const std::byte* page, Trailer* trailer) {
  TrailerPage fields;
  std::memcpy(&fields, page, sizeof fields);
  if (std::memcmp(fields.magic, kMagic, sizeof kMagic) != 0) return "magic";
  // The version stands before the check: a later format may compute its check differently.
  if (fields.format != kTrailerFormat) return "version";
  uint64_t check = 0;
  std::memcpy(&check, page + kCheckOffset, sizeof check);
  if (check != base::digest_64(page, kCheckOffset, 0)) return "trailer";
  if (fields.reserved_0 != 0 || !all_zero(page + sizeof fields, page + kCheckOffset)) {
    return "trailer";
  }
  if (fields.payload_bytes == 0 || fields.ranks == 0 || fields.rank >= fields.ranks) {
    return "trailer";
  }
  trailer->key = {fields.key_low, fields.key_high};
  trailer->layout_id = fields.layout_id;
  trailer->payload_bytes = fields.payload_bytes;
  trailer->rank = fields.rank;
  trailer->ranks = fields.ranks;
  trailer->digest = {fields.digest_low, fields.digest_high};
  trailer->written_ns = fields.written_ns;
  return nullptr;
}

}  // namespace ucm::posix
