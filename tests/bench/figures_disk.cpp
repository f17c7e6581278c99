// SPDX-License-Identifier: Apache-2.0
#include "figures.h"

namespace ucm::bench {
namespace {

std::unique_ptr<Pipeline> open_store(const Arguments& a) {
  PipelineConfig config;
  config.spec = "Cache|Disk";
  // A small Cache: blocks flow through it, so reads come from the disk.
  config.options = {{"storage_backends", std::vector<std::string>{a.folder}},
                    {"buffer_number", static_cast<int64_t>(a.slots())},
                    {"copy_threads", static_cast<int64_t>(a.threads)},
                    {"io_depth", a.depth},
                    {"capacity_bytes", static_cast<int64_t>(8 * a.blocks * a.block_bytes)}};
  config.layout = must(BlockLayout::make({a.block_bytes}, 1, 0));
  return must(Pipeline::open(config));
}

// Every slot of the pool is touched once, as in a process that has run for a while: the pages of a
// pool cost once in its life, not with every block.
void warm_up(Store& store, const Arguments& a) {
  const BlockMemory memory(a.slots(), a.block_bytes, 9);
  const auto keys = bench_keys(uint64_t{1} << 40, a.slots());
  transfer(store, Direction::dump, keys, memory);
  must(store.remove(keys));
}

void print(const char* what, const Arguments& a, double seconds, double cpu) {
  const double gigabytes = static_cast<double>(a.blocks * a.block_bytes) / 1e9;
  std::printf(
      "{\"what\": \"%s\", \"block_bytes\": %zu, \"blocks\": %zu, \"depth\": %ld, "
      "\"GBps\": %.3f, \"cpu_s_per_GB\": %.3f}\n",
      what, a.block_bytes, a.blocks, static_cast<long>(a.depth), gigabytes / seconds,
      cpu / gigabytes);
}

}  // namespace

// One round each: the driver interleaves them with fio and empties the page cache between them.
void disk_write(const Arguments& a) {
  auto store = open_store(a);
  const BlockMemory source(a.blocks, a.block_bytes, 1);
  const auto keys = bench_keys(0, a.blocks);
  must(store->remove(keys));
  warm_up(*store, a);
  const double cpu = cpu_seconds();
  const double start = now();
  transfer(*store, Direction::dump, keys, source);
  print("disk-write", a, now() - start, cpu_seconds() - cpu);
}

void disk_read(const Arguments& a) {
  auto store = open_store(a);
  const BlockMemory source(a.blocks, a.block_bytes, 1);
  const BlockMemory target(a.blocks, a.block_bytes, 2);
  const auto keys = bench_keys(0, a.blocks);
  warm_up(*store, a);
  const double cpu = cpu_seconds();
  const double start = now();
  transfer(*store, Direction::load, keys, target);
  const double seconds = now() - start;
  const double used = cpu_seconds() - cpu;
  check_same(source, target, a.blocks, a.block_bytes);
  print("disk-read", a, seconds, used);
}

}  // namespace ucm::bench
