// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "ucm/pipeline.h"

// Shared by the figure programs: options, clocks, keys and one JSON object per line on stdout.
namespace ucm::bench {

struct Arguments {
  std::string folder;
  size_t block_bytes = size_t{2} << 20;
  size_t blocks = 64;
  int rounds = 11;
  unsigned threads = 2;
  int64_t depth = 8;
  size_t keys = 1 << 20;
};

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return t.tv_sec + t.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

inline BlockKey bench_key(uint64_t number) {
  uint64_t x = (number + 1) * 0x9E3779B97F4A7C15ull;
  x ^= x >> 31;
  return {x * 0xBF58476D1CE4E5B9ull, x ^ 0x94D049BB133111EBull};
}

inline std::vector<BlockKey> bench_keys(uint64_t first, uint64_t count) {
  std::vector<BlockKey> keys(count);
  for (uint64_t i = 0; i < count; ++i) keys[i] = bench_key(first + i);
  return keys;
}

// Page-aligned memory for `blocks` blocks, touched.
class BlockMemory {
 public:
  BlockMemory(size_t blocks, size_t bytes, unsigned char seed) : bytes_(bytes) {
    memory_.reset(static_cast<unsigned char*>(
        std::aligned_alloc(size_t{2} << 20, align_up(blocks * bytes, size_t{2} << 20))));
    for (size_t i = 0; i < blocks; ++i) {
      unsigned char* block = at(i);
      for (size_t j = 0; j < bytes; ++j) block[j] = static_cast<unsigned char>(seed + i + j * 7);
      addresses_.push_back(reinterpret_cast<uintptr_t>(block));
    }
  }
  unsigned char* at(size_t block) const { return memory_.get() + block * bytes_; }
  std::span<const uintptr_t> addresses() const { return addresses_; }

 private:
  struct Free {
    void operator()(unsigned char* memory) const { std::free(memory); }
  };
  size_t bytes_;
  std::unique_ptr<unsigned char, Free> memory_;
  std::vector<uintptr_t> addresses_;
};

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "ucm_figures: %s\n", result.status().to_string().c_str());
    std::exit(1);
  }
  return std::move(result).value();
}

inline void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "ucm_figures: %s\n", status.to_string().c_str());
  std::exit(1);
}

inline void transfer(Store& store, Direction direction, const std::vector<BlockKey>& keys,
                     const BlockMemory& memory) {
  Batch batch;
  batch.keys = keys;
  batch.addresses = memory.addresses().first(keys.size());
  const TaskPtr task = direction == Direction::dump ? store.dump(batch) : store.load(batch);
  must(task->wait(std::chrono::seconds(120)));
}

void cache_figures(const Arguments& arguments);
void disk_write(const Arguments& arguments);
void disk_read(const Arguments& arguments);
void lookup_figures(const Arguments& arguments);

}  // namespace ucm::bench
