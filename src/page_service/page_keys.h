// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "ucm/key.h"

namespace ucm::page_service {

// Every page is stored under a key of its own, so blocks of any size share one store. A block's key
// names its last page; the page `back` pages before it gets a key made from both.
BlockKey page_key(const BlockKey& block, uint32_t back);

// How many blocks `pages` pages make, and how many pages block `b` of them has.
inline uint64_t block_count(uint64_t pages, uint32_t block_pages) {
  return (pages + block_pages - 1) / block_pages;
}
inline uint32_t pages_in_block(uint64_t b, uint64_t pages, uint32_t block_pages) {
  const uint64_t first = b * block_pages;
  return static_cast<uint32_t>(pages - first < block_pages ? pages - first : block_pages);
}

}  // namespace ucm::page_service
