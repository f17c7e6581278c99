// SPDX-License-Identifier: Apache-2.0
// Copying and XXH3-128 in one pass, for checksum_body.inl.h. The long form of the algorithm (more
// than 240 bytes) from its specification: stripes of 64 bytes go into eight 64-bit lanes, which are
// scrambled after each 1,024 bytes. Short input and other processors take the library's stream.

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstring>

namespace ucm::base::UCM_CHECKSUM_ISA {
namespace {

Digest copy_then_digest(std::span<const CopyPiece> pieces, uint64_t seed) {
  constexpr size_t kStep = size_t{64} << 10;  // still in the first caches when it is digested
  XXH3_state_t stream;
  XXH3_INITSTATE(&stream);
  XXH3_128bits_reset_withSeed(&stream, seed);
  for (const CopyPiece& piece : pieces) {
    for (size_t at = 0; at < piece.bytes; at += kStep) {
      char* to = static_cast<char*>(piece.dst) + at;
      const size_t bytes = std::min(kStep, piece.bytes - at);
      std::memcpy(to, static_cast<const char*>(piece.src) + at, bytes);
      XXH3_128bits_update(&stream, to, bytes);
    }
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(&stream);
  return {hash.low64, hash.high64};
}

#if defined(__AVX2__)

constexpr size_t kStripe = 64;
constexpr size_t kBlock = 1024;
constexpr size_t kSecret = XXH3_SECRET_DEFAULT_SIZE;
constexpr size_t kShortInput = 240;
// Less than this is likely read again while it is still in a cache.
constexpr size_t kPastCachesFrom = size_t{512} << 10;

constexpr uint64_t kPrime32_1 = 0x9E3779B1, kPrime32_2 = 0x85EBCA77, kPrime32_3 = 0xC2B2AE3D;
constexpr uint64_t kPrime64_1 = 0x9E3779B185EBCA87, kPrime64_2 = 0xC2B2AE3D27D4EB4F,
                   kPrime64_3 = 0x165667B19E3779F9, kPrime64_4 = 0x85EBCA77C2B2AE63,
                   kPrime64_5 = 0x27D4EB2F165667C5;

#if defined(__AVX512F__)
using Vector = __m512i;
Vector load(const void* from) { return _mm512_loadu_si512(from); }
void store(void* to, Vector v) { _mm512_storeu_si512(to, v); }
void store_past_caches(void* to, Vector v) { _mm512_stream_si512(static_cast<Vector*>(to), v); }
Vector add(Vector a, Vector b) { return _mm512_add_epi64(a, b); }
Vector exclusive_or(Vector a, Vector b) { return _mm512_xor_si512(a, b); }
Vector times_low_halves(Vector a, Vector b) { return _mm512_mul_epu32(a, b); }
Vector spread(uint64_t value) { return _mm512_set1_epi64(static_cast<int64_t>(value)); }
template <int kBits>
Vector down(Vector v) {
  return _mm512_srli_epi64(v, kBits);
}
template <int kBits>
Vector up(Vector v) {
  return _mm512_slli_epi64(v, kBits);
}
Vector swap_neighbours(Vector v) { return _mm512_shuffle_epi32(v, _MM_PERM_BADC); }
#else
using Vector = __m256i;
Vector load(const void* from) { return _mm256_loadu_si256(static_cast<const Vector*>(from)); }
void store(void* to, Vector v) { _mm256_storeu_si256(static_cast<Vector*>(to), v); }
void store_past_caches(void* to, Vector v) { _mm256_stream_si256(static_cast<Vector*>(to), v); }
Vector add(Vector a, Vector b) { return _mm256_add_epi64(a, b); }
Vector exclusive_or(Vector a, Vector b) { return _mm256_xor_si256(a, b); }
Vector times_low_halves(Vector a, Vector b) { return _mm256_mul_epu32(a, b); }
Vector spread(uint64_t value) { return _mm256_set1_epi64x(static_cast<int64_t>(value)); }
template <int kBits>
Vector down(Vector v) {
  return _mm256_srli_epi64(v, kBits);
}
template <int kBits>
Vector up(Vector v) {
  return _mm256_slli_epi64(v, kBits);
}
Vector swap_neighbours(Vector v) { return _mm256_shuffle_epi32(v, 0x4E); }
#endif

constexpr size_t kVectors = kStripe / sizeof(Vector);
enum class Store { none, near, past_caches };

uint64_t read_64(const char* from) {
  uint64_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// The low half of the 128-bit product xor its high half.
uint64_t folded_product(uint64_t a, uint64_t b) {
  __extension__ typedef unsigned __int128 Wide;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
}

// The state between two blocks. `kStore` says what becomes of the bytes that pass through.
class Lanes {
 public:
  explicit Lanes(uint64_t seed) {
    XXH3_generateSecret_fromSeed(secret_, seed);
    alignas(64) const uint64_t start[8] = {kPrime32_3, kPrime64_1, kPrime64_2, kPrime64_3,
                                           kPrime64_4, kPrime32_2, kPrime64_5, kPrime32_1};
    for (size_t i = 0; i < kVectors; ++i) lanes_[i] = load(start + i * sizeof(Vector) / 8);
  }

  template <Store kStore>
  void add_block(const char* from, char* to) {
    Vector lanes[kVectors];
    for (size_t i = 0; i < kVectors; ++i) lanes[i] = lanes_[i];
    for (size_t stripe = 0; stripe < kBlock / kStripe; ++stripe) {
      const size_t at = stripe * kStripe;
      if constexpr (kStore == Store::past_caches) _mm_prefetch(from + at + kBlock, _MM_HINT_NTA);
      add_stripe<kStore>(from + at, secret_ + 8 * stripe, to + at, lanes);
    }
    for (size_t i = 0; i < kVectors; ++i) lanes_[i] = scrambled(lanes[i], i);
  }

  // What is behind the last whole block: 1 to 1,024 bytes, the end of at least 64.
  Digest finish(const char* from, size_t bytes, uint64_t total) {
    const size_t stripes = (bytes - 1) / kStripe;
    for (size_t stripe = 0; stripe < stripes; ++stripe) {
      add_stripe<Store::none>(from + stripe * kStripe, secret_ + 8 * stripe, nullptr, lanes_);
    }
    add_stripe<Store::none>(from + bytes - kStripe, secret_ + kSecret - kStripe - 7, nullptr,
                            lanes_);
    alignas(64) uint64_t lanes[8];
    for (size_t i = 0; i < kVectors; ++i) store(lanes + i * sizeof(Vector) / 8, lanes_[i]);
    return {merged(lanes, secret_ + 11, total * kPrime64_1),
            merged(lanes, secret_ + kSecret - kStripe - 11, ~(total * kPrime64_2))};
  }

 private:
  template <Store kStore>
  static void add_stripe(const char* from, const char* secret, char* to, Vector* lanes) {
    for (size_t i = 0; i < kVectors; ++i) {
      const size_t at = i * sizeof(Vector);
      const Vector value = load(from + at);
      if constexpr (kStore == Store::near) store(to + at, value);
      if constexpr (kStore == Store::past_caches) store_past_caches(to + at, value);
      const Vector key = exclusive_or(value, load(secret + at));
      lanes[i] = add(add(lanes[i], swap_neighbours(value)), times_low_halves(key, down<32>(key)));
    }
  }

  Vector scrambled(Vector lane, size_t i) const {
    const Vector prime = spread(kPrime32_1);
    const Vector mixed = exclusive_or(exclusive_or(lane, down<47>(lane)),
                                      load(secret_ + kSecret - kStripe + i * sizeof(Vector)));
    return add(times_low_halves(mixed, prime), up<32>(times_low_halves(down<32>(mixed), prime)));
  }

  static uint64_t merged(const uint64_t* lanes, const char* secret, uint64_t start) {
    uint64_t sum = start;
    for (size_t i = 0; i < 8; i += 2) {
      sum += folded_product(lanes[i] ^ read_64(secret + 8 * i),
                            lanes[i + 1] ^ read_64(secret + 8 * i + 8));
    }
    sum = (sum ^ (sum >> 37)) * 0x165667919E3779F9;
    return sum ^ (sum >> 32);
  }

  Vector lanes_[kVectors];
  alignas(64) char secret_[kSecret];
};

// The bytes of the pieces in order.
class Source {
 public:
  explicit Source(std::span<const CopyPiece> pieces) : pieces_(pieces) {}

  // The next block when it lies in one piece, else null. It is taken.
  const char* whole_block() {
    skip_empty();
    if (pieces_.front().bytes - at_ < kBlock) return nullptr;
    at_ += kBlock;
    return static_cast<const char*>(pieces_.front().src) + at_ - kBlock;
  }

  void copy(char* to, size_t bytes) {
    while (bytes > 0) {
      skip_empty();
      const size_t some = std::min(bytes, pieces_.front().bytes - at_);
      std::memcpy(to, static_cast<const char*>(pieces_.front().src) + at_, some);
      at_ += some;
      to += some;
      bytes -= some;
    }
  }

 private:
  void skip_empty() {
    while (at_ == pieces_.front().bytes) {
      pieces_ = pieces_.subspan(1);
      at_ = 0;
    }
  }

  std::span<const CopyPiece> pieces_;
  size_t at_ = 0;
};

template <Store kStore>
Digest copy_and_digest(std::span<const CopyPiece> pieces, size_t total, uint64_t seed) {
  Lanes lanes(seed);
  Source source(pieces);
  char* to = static_cast<char*>(pieces.front().dst);
  size_t left = total;
  // The last block is never scrambled, so it is no part of this.
  for (; left > kBlock; left -= kBlock, to += kBlock) {
    if (const char* from = source.whole_block()) {
      lanes.add_block<kStore>(from, to);
    } else {
      source.copy(to, kBlock);
      lanes.add_block<Store::none>(to, to);
    }
  }
  source.copy(to, left);
  return lanes.finish(to, left, total);
}

size_t total_bytes(std::span<const CopyPiece> pieces) {
  size_t total = 0;
  for (const CopyPiece& piece : pieces) total += piece.bytes;
  return total;
}

bool aligned(const CopyPiece& piece) {
  return reinterpret_cast<uintptr_t>(piece.dst) % kStripe == 0;
}

#endif

}  // namespace

void copy_digest_128(std::span<const CopyPiece> pieces, std::span<Digest> digests) {
  const size_t row_pieces = pieces.size() / digests.size();
#if defined(__AVX2__)
  const bool many = total_bytes(pieces) >= kPastCachesFrom;
  for (size_t i = 0; i < digests.size(); ++i) {
    const auto row = pieces.subspan(i * row_pieces, row_pieces);
    const size_t bytes = total_bytes(row);
    const uint64_t seed = digests[i].low;
    if (bytes <= kShortInput) {
      digests[i] = copy_then_digest(row, seed);
    } else if (many && aligned(row.front())) {
      digests[i] = copy_and_digest<Store::past_caches>(row, bytes, seed);
    } else {
      digests[i] = copy_and_digest<Store::near>(row, bytes, seed);
    }
  }
  // Stores past the caches are weakly ordered: nobody may hear of them before they have landed.
  if (many) _mm_sfence();
#else
  for (size_t i = 0; i < digests.size(); ++i) {
    digests[i] = copy_then_digest(pieces.subspan(i * row_pieces, row_pieces), digests[i].low);
  }
#endif
}

}  // namespace ucm::base::UCM_CHECKSUM_ISA
