// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cstring>

#include "figures.h"

namespace ucm::bench {
namespace {

// The limit: the same blocks between the same kinds of memory by `threads` plain memcpy threads.
double memcpy_seconds(const BlockMemory& to, const BlockMemory& from, size_t blocks, size_t bytes,
                      unsigned threads) {
  const double start = now();
  std::vector<std::thread> workers;
  for (unsigned t = 0; t < threads; ++t) {
    workers.emplace_back([&, t] {
      for (size_t i = t; i < blocks; i += threads) std::memcpy(to.at(i), from.at(i), bytes);
    });
  }
  for (std::thread& worker : workers) worker.join();
  return now() - start;
}

// One pool and what was measured of it, each round against a memcpy just before.
struct Measured {
  const char* what;
  std::unique_ptr<Pipeline> store;
  std::vector<double> put;
  std::vector<double> get;
  std::vector<double> put_ratio;
  std::vector<double> get_ratio;
};

Measured open_pool(const Arguments& a, const char* what, bool share) {
  PipelineConfig config;
  config.spec = "Cache";
  // Two generations of blocks fit: rounds alternate, so every put is a put of absent blocks.
  config.options = {{"buffer_number", static_cast<int64_t>(2 * a.blocks)},
                    {"copy_threads", static_cast<int64_t>(a.threads)},
                    {"eviction_policy", "lru"},
                    {"share", share},
                    {"unique_id", "figures-" + std::to_string(::getpid())}};
  config.layout = must(BlockLayout::make({a.block_bytes}, 1, 0));
  Measured measured;
  measured.what = what;
  measured.store = must(Pipeline::open(config));
  return measured;
}

}  // namespace

void cache_figures(const Arguments& a) {
  std::vector<Measured> pools;
  pools.push_back(open_pool(a, "cache", false));
  pools.push_back(open_pool(a, "cache shared", true));
  const BlockMemory source(a.blocks, a.block_bytes, 1);
  const BlockMemory target(a.blocks, a.block_bytes, 2);
  std::vector<double> copy;
  for (int round = -2; round < a.rounds; ++round) {  // two rounds touch all pages
    const auto keys = bench_keys(static_cast<uint64_t>(round + 2) * a.blocks, a.blocks);
    for (Measured& pool : pools) {
      const double limit = memcpy_seconds(target, source, a.blocks, a.block_bytes, a.threads);
      double start = now();
      transfer(*pool.store, Direction::dump, keys, source);
      const double put = now() - start;
      const double limit_again = memcpy_seconds(target, source, a.blocks, a.block_bytes, a.threads);
      start = now();
      transfer(*pool.store, Direction::load, keys, target);
      const double get = now() - start;
      if (std::memcmp(source.at(0), target.at(0), a.block_bytes) != 0) std::abort();
      if (round < 0) continue;
      copy.push_back(limit);
      pool.put.push_back(put);
      pool.get.push_back(get);
      pool.put_ratio.push_back(limit / put);
      pool.get_ratio.push_back(limit_again / get);
    }
  }
  const double bytes = static_cast<double>(a.blocks * a.block_bytes);
  for (const Measured& pool : pools) {
    std::printf(
        "{\"what\": \"%s\", \"block_bytes\": %zu, \"blocks\": %zu, \"threads\": %u, \"rounds\": "
        "%d, \"memcpy_GBps\": %.2f, \"put_GBps\": %.2f, \"get_GBps\": %.2f, "
        "\"put_over_memcpy\": %.3f, \"get_over_memcpy\": %.3f}\n",
        pool.what, a.block_bytes, a.blocks, a.threads, a.rounds, bytes / median(copy) / 1e9,
        bytes / median(pool.put) / 1e9, bytes / median(pool.get) / 1e9, median(pool.put_ratio),
        median(pool.get_ratio));
  }
}

}  // namespace ucm::bench
