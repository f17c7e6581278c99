// SPDX-License-Identifier: Apache-2.0
#include "page_service/page_keys.h"

#include "base/checksum.h"
#include "ucm/page_service.h"

namespace ucm {
namespace page_service {
namespace {

// splitmix64: consecutive numbers become unrelated ones.
uint64_t scatter(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace

BlockKey page_key(const BlockKey& block, uint32_t back) {
  if (back == 0) return block;
  return {block.low ^ scatter(2ull * back), block.high ^ scatter(2ull * back + 1)};
}

}  // namespace page_service

std::vector<BlockKey> hash_token_blocks(std::span<const uint64_t> tokens, uint32_t block_tokens) {
  std::vector<BlockKey> keys;
  for (size_t first = 0; first < tokens.size(); first += block_tokens) {
    const auto block = tokens.subspan(first, std::min<size_t>(block_tokens, tokens.size() - first));
    const base::Digest digest = base::digest_128(block.data(), block.size_bytes(), 0);
    keys.push_back({digest.low, digest.high});
  }
  return keys;
}

}  // namespace ucm
