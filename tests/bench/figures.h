// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
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
  bool direct = false;
  size_t pack_bytes = 0;

  // Slots of the staging pool: twice what is in flight, but at least 64 MiB.
  size_t slots() const {
    return std::max<size_t>(static_cast<size_t>(4 * depth), (size_t{64} << 20) / block_bytes);
  }
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

// Wall and CPU time of a stretch of work, from construction to `stop`.
struct Stretch {
  double seconds = -now();
  double cpu = -cpu_seconds();
  void stop() {
    seconds += now();
    cpu += cpu_seconds();
  }
};

// Rounds of our work beside a limit taken right before: the ratio of a round is ours / limit in
// time, so 1.2 means 1.2 times as long.
struct Series {
  std::vector<double> limits;
  std::vector<double> ours;
  std::vector<double> ratios;
  std::vector<double> cpus;

  void add(double limit, const Stretch& stretch) {
    limits.push_back(limit);
    ours.push_back(stretch.seconds);
    ratios.push_back(stretch.seconds / limit);
    cpus.push_back(stretch.cpu);
  }
  std::string text(const std::string& name, double gigabytes) const {
    const auto [least, most] = std::minmax_element(ratios.begin(), ratios.end());
    char line[400];
    std::snprintf(line, sizeof line,
                  "\"%s_GBps\": %.3f, \"bare_%s_GBps\": %.3f, \"%s_time_over_bare\": %.3f, "
                  "\"%s_time_over_bare_spread\": [%.3f, %.3f], \"%s_cpu_s_per_GB\": %.3f",
                  name.c_str(), gigabytes / median(ours), name.c_str(), gigabytes / median(limits),
                  name.c_str(), median(ratios), name.c_str(), *least, *most, name.c_str(),
                  median(cpus) / gigabytes);
    return line;
  }
};

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

inline void check_same(const BlockMemory& source, const BlockMemory& target, size_t blocks,
                       size_t bytes) {
  for (size_t i = 0; i < blocks; ++i) {
    if (std::memcmp(source.at(i), target.at(i), bytes) == 0) continue;
    std::fprintf(stderr, "ucm_figures: block %zu came back wrong\n", i);
    std::exit(1);
  }
}

void cache_figures(const Arguments& arguments);
void disk_write(const Arguments& arguments);
void disk_read(const Arguments& arguments);
void lookup_figures(const Arguments& arguments);
void posix_figures(const Arguments& arguments);
void idle_figures(const Arguments& arguments);

}  // namespace ucm::bench
