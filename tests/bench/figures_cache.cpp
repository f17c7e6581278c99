// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <barrier>
#include <cstring>

#include "figures.h"

namespace ucm::bench {
namespace {

// The limit: the same blocks between the same kinds of memory by `threads` plain memcpy threads,
// from when all of them are awake to when the last one has copied.
double memcpy_seconds(const BlockMemory& to, size_t first_to, const BlockMemory& from,
                      size_t first_from, const Arguments& a) {
  const unsigned threads = a.threads;
  std::vector<double> begun(threads);
  std::vector<double> ended(threads);
  std::barrier awake(threads);
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      awake.arrive_and_wait();
      begun[t] = now();
      for (size_t i = t; i < a.blocks; i += threads) {
        std::memcpy(to.at(first_to + i), from.at(first_from + i), a.block_bytes);
      }
      ended[t] = now();
    });
  }
  for (std::thread& worker : workers) worker.join();
  return *std::max_element(ended.begin(), ended.end()) -
         *std::min_element(begun.begin(), begun.end());
}

// One pool and what was measured of it, each round against a memcpy just before.
struct Measured {
  const char* what;
  bool loads;
  std::unique_ptr<Pipeline> store;
  std::vector<double> put;
  std::vector<double> get;
  std::vector<double> put_ratio;
  std::vector<double> get_ratio;
};

Measured open_pool(const Arguments& a, const char* what, const char* spec, bool share) {
  PipelineConfig config;
  config.spec = spec;
  // Two generations of blocks fit: rounds alternate, so every put is a put of absent blocks.
  config.options = {{"buffer_number", static_cast<int64_t>(2 * a.blocks)},
                    {"copy_threads", static_cast<int64_t>(a.threads)},
                    {"eviction_policy", "lru"},
                    {"share", share},
                    {"unique_id", "figures-" + std::to_string(::getpid())}};
  config.layout = must(BlockLayout::make({a.block_bytes}, 1, 0));
  Measured measured;
  measured.what = what;
  measured.loads = config.spec == "Cache";
  measured.store = must(Pipeline::open(config));
  return measured;
}

}  // namespace

void cache_figures(const Arguments& a) {
  std::vector<Measured> pools;
  pools.push_back(open_pool(a, "cache", "Cache", false));
  pools.push_back(open_pool(a, "cache shared", "Cache", true));
  // Null asks for the checksums that a storage would store; nothing is checked on the way back.
  pools.push_back(open_pool(a, "cache digested", "Cache|Null", false));
  const BlockMemory source(a.blocks, a.block_bytes, 1);
  const BlockMemory target(a.blocks, a.block_bytes, 2);
  // As large as a pool and used in turns like one: as much of it is in the processor's caches.
  const BlockMemory twin(2 * a.blocks, a.block_bytes, 3);
  size_t half = 0;
  std::vector<double> copy;
  for (int round = -2; round < a.rounds; ++round) {  // two rounds touch all pages
    const auto keys = bench_keys(static_cast<uint64_t>(round + 2) * a.blocks, a.blocks);
    for (Measured& pool : pools) {
      half = a.blocks - half;
      const double limit = memcpy_seconds(twin, half, source, 0, a);
      double start = now();
      transfer(*pool.store, Direction::dump, keys, source);
      const double put = now() - start;
      if (round >= 0) {
        copy.push_back(limit);
        pool.put.push_back(put);
        pool.put_ratio.push_back(limit / put);
      }
      if (!pool.loads) continue;
      const double limit_again = memcpy_seconds(target, 0, twin, half, a);
      start = now();
      transfer(*pool.store, Direction::load, keys, target);
      const double get = now() - start;
      if (std::memcmp(source.at(0), target.at(0), a.block_bytes) != 0) std::abort();
      if (round < 0) continue;
      pool.get.push_back(get);
      pool.get_ratio.push_back(limit_again / get);
    }
  }
  const double bytes = static_cast<double>(a.blocks * a.block_bytes);
  for (const Measured& pool : pools) {
    std::printf(
        "{\"what\": \"%s\", \"block_bytes\": %zu, \"blocks\": %zu, \"threads\": %u, \"rounds\": "
        "%d, \"memcpy_GBps\": %.2f, \"put_GBps\": %.2f, \"put_over_memcpy\": %.3f",
        pool.what, a.block_bytes, a.blocks, a.threads, a.rounds, bytes / median(copy) / 1e9,
        bytes / median(pool.put) / 1e9, median(pool.put_ratio));
    if (pool.loads) {
      std::printf(", \"get_GBps\": %.2f, \"get_over_memcpy\": %.3f", bytes / median(pool.get) / 1e9,
                  median(pool.get_ratio));
    }
    std::printf("}\n");
  }
}

}  // namespace ucm::bench
