// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ucm/layout.h"
#include "ucm/store.h"

// Shared by the C++ tests: keys, content that follows from the key, and buffers that hold it.
namespace ucm::test {

inline constexpr std::chrono::seconds kPatience{20};

inline BlockKey make_key(uint64_t number) {
  // Well mixed, as BlockKey promises.
  uint64_t x = number * 0x9E3779B97F4A7C15ull + 0x1234567;
  x ^= x >> 29;
  x *= 0xBF58476D1CE4E5B9ull;
  return {x ^ (x >> 32), x * 0x94D049BB133111EBull + number};
}

inline std::vector<BlockKey> make_keys(uint64_t first, uint64_t count) {
  std::vector<BlockKey> keys;
  for (uint64_t i = 0; i < count; ++i) keys.push_back(make_key(first + i));
  return keys;
}

// Byte `offset` of the block of `key`: every byte depends on the key and its place.
inline std::byte content(const BlockKey& key, size_t offset) {
  const uint64_t x = (key.low + offset / 8) * 0xD6E8FEB86659FD93ull;
  return static_cast<std::byte>(x >> (8 * (offset % 8)));
}

// Buffers for all pieces of all rows, and their addresses in batch order.
class Buffers {
 public:
  Buffers(const BlockLayout& layout, size_t rows) : layout_(layout) {
    for (size_t row = 0; row < rows; ++row) {
      for (const size_t bytes : layout.piece_bytes()) {
        // Rounded up and aligned, so that the same buffers serve storage stages.
        void* memory = std::aligned_alloc(kAlign, align_up(bytes));
        std::memset(memory, 0, align_up(bytes));
        memory_.emplace_back(static_cast<std::byte*>(memory), &std::free);
        addresses_.push_back(reinterpret_cast<uintptr_t>(memory));
      }
    }
  }

  std::span<const uintptr_t> addresses() const { return addresses_; }
  std::byte* piece(size_t row, size_t j) const { return memory_[row * layout_.pieces() + j].get(); }

  void fill(size_t row, const BlockKey& key, uint32_t shard) {
    each_byte(row, shard, [&](std::byte* at, size_t offset) { *at = content(key, offset); });
  }
  // How many bytes of the row differ from what the key says.
  size_t wrong_bytes(size_t row, const BlockKey& key, uint32_t shard) {
    size_t wrong = 0;
    each_byte(row, shard,
              [&](std::byte* at, size_t offset) { wrong += *at != content(key, offset); });
    return wrong;
  }
  void wipe() {
    for (size_t i = 0; i < memory_.size(); ++i) {
      std::memset(memory_[i].get(), 0xEE, layout_.piece_bytes()[i % layout_.pieces()]);
    }
  }

 private:
  template <typename Visit>
  void each_byte(size_t row, uint32_t shard, Visit visit) {
    size_t offset = shard * layout_.shard_bytes();
    for (size_t j = 0; j < layout_.pieces(); ++j) {
      for (size_t k = 0; k < layout_.piece_bytes()[j]; ++k) visit(piece(row, j) + k, offset++);
    }
  }

  BlockLayout layout_;
  std::vector<std::unique_ptr<std::byte, void (*)(void*)>> memory_;
  std::vector<uintptr_t> addresses_;
};

inline Batch make_batch(std::span<const BlockKey> keys, std::span<const uint32_t> shards,
                        const Buffers& buffers) {
  Batch batch;
  batch.keys = keys;
  batch.shards = shards;
  batch.addresses = buffers.addresses();
  return batch;
}

// Every shard of every key, shard by shard as a layer-wise engine would go.
inline void all_rows(const BlockLayout& layout, const std::vector<BlockKey>& keys,
                     std::vector<BlockKey>* row_keys, std::vector<uint32_t>* shards) {
  for (uint32_t shard = 0; shard < layout.shards(); ++shard) {
    row_keys->insert(row_keys->end(), keys.begin(), keys.end());
    shards->insert(shards->end(), keys.size(), shard);
  }
}

// Dumps whole blocks in one task and waits; the first cause on failure.
inline Status dump_blocks(Store& store, const std::vector<BlockKey>& keys) {
  std::vector<BlockKey> row_keys;
  std::vector<uint32_t> shards;
  all_rows(store.layout(), keys, &row_keys, &shards);
  Buffers buffers(store.layout(), row_keys.size());
  for (size_t i = 0; i < row_keys.size(); ++i) buffers.fill(i, row_keys[i], shards[i]);
  return store.dump(make_batch(row_keys, shards, buffers))->wait(kPatience);
}

// Loads whole blocks in one task and counts wrong bytes; the first cause on failure.
inline Result<size_t> load_blocks(Store& store, const std::vector<BlockKey>& keys) {
  std::vector<BlockKey> row_keys;
  std::vector<uint32_t> shards;
  all_rows(store.layout(), keys, &row_keys, &shards);
  Buffers buffers(store.layout(), row_keys.size());
  buffers.wipe();
  UCM_TRY(store.load(make_batch(row_keys, shards, buffers))->wait(kPatience));
  size_t wrong = 0;
  for (size_t i = 0; i < row_keys.size(); ++i) {
    wrong += buffers.wrong_bytes(i, row_keys[i], shards[i]);
  }
  return wrong;
}

inline size_t count_present(Store& store, const std::vector<BlockKey>& keys) {
  std::vector<uint8_t> present(keys.size());
  if (!store.lookup(keys, present).ok()) return 0;
  size_t count = 0;
  for (const uint8_t yes : present) count += yes;
  return count;
}

}  // namespace ucm::test
