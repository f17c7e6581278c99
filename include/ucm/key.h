// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "ucm/version.h"

namespace ucm {

// 16 opaque bytes that name a content. ucm never sees tokens: whoever makes keys guarantees that
// equal keys mean equal bytes. A plain value; the bytes are expected to be well mixed (a hash).
struct BlockKey {
  uint64_t low = 0;   // bytes 0..7, little-endian
  uint64_t high = 0;  // bytes 8..15, little-endian

  static constexpr size_t kBytes = 16;

  static BlockKey from_bytes(const void* bytes) {
    BlockKey key;
    std::memcpy(&key, bytes, kBytes);
    return key;
  }
  friend bool operator==(const BlockKey&, const BlockKey&) = default;

  // 32 hex digits, byte 0 first.
  UCM_API std::string hex() const;
  // The first 8 hex digits and "...": what log lines and errors show.
  UCM_API std::string prefix() const;
  // Parses 32 hex digits; false (and `key` untouched) for anything else.
  UCM_API static bool parse(std::string_view hex, BlockKey* key);
};
static_assert(sizeof(BlockKey) == BlockKey::kBytes);

// A well-mixed 64-bit number of a key, the same on every machine (placement on disk relies on it).
inline uint64_t mix(const BlockKey& key) {
  uint64_t x = key.low ^ (key.high * 0x9E3779B97F4A7C15ull);
  x ^= x >> 32;
  x *= 0xD6E8FEB86659FD93ull;
  x ^= x >> 32;
  return x;
}

// A 128-bit XXH3 digest, as two little-endian words.
struct Digest {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const Digest&, const Digest&) = default;
};

}  // namespace ucm

template <>
struct std::hash<ucm::BlockKey> {
  size_t operator()(const ucm::BlockKey& key) const noexcept { return ucm::mix(key); }
};
