// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <numeric>
#include <random>
#include <utility>

#include "figures.h"

namespace ucm::bench {
namespace {

constexpr size_t kBatch = 1024;
constexpr size_t kBlockBytes = 4096;

// Nanoseconds a key, asking for all keys in random order in batches of 1024.
double lookup_ns(Store& store, std::vector<BlockKey> keys, uint8_t expected) {
  std::shuffle(keys.begin(), keys.end(), std::mt19937_64(1));
  std::vector<uint8_t> present(kBatch);
  std::vector<double> passes;
  for (int pass = 0; pass < 5; ++pass) {
    const double start = now();
    for (size_t at = 0; at + kBatch <= keys.size(); at += kBatch) {
      must(store.lookup(std::span(keys).subspan(at, kBatch), present));
      if (std::count(present.begin(), present.end(), expected) != static_cast<long>(kBatch)) {
        std::fprintf(stderr, "ucm_figures: a lookup answered wrongly\n");
        std::exit(1);
      }
    }
    passes.push_back((now() - start) / static_cast<double>(keys.size() / kBatch * kBatch) * 1e9);
  }
  return median(passes);
}

void fill(Store& store, const std::vector<BlockKey>& keys) {
  const BlockMemory block(1, kBlockBytes, 3);
  const std::vector<uintptr_t> same(kBatch, block.addresses()[0]);
  for (size_t at = 0; at < keys.size(); at += kBatch) {
    Batch batch;
    batch.keys = std::span(keys).subspan(at, std::min(kBatch, keys.size() - at));
    batch.addresses = std::span(same).first(batch.keys.size());
    must(store.dump(batch)->wait(std::chrono::seconds(120)));
  }
}

PipelineConfig make_config(const std::string& spec, bool share, const Arguments& a) {
  PipelineConfig config;
  config.spec = spec;
  const bool disk = spec == "Disk";
  config.options = {{"buffer_number", static_cast<int64_t>(disk ? 4096 : a.keys)},
                    {"share", share},
                    {"unique_id", "figures-" + std::to_string(::getpid())},
                    {"prefault", false}};
  if (disk) {
    config.options["storage_backends"] = std::vector<std::string>{a.folder};
    config.options["capacity_bytes"] = static_cast<int64_t>((a.keys + a.keys / 8) * kBlockBytes);
  }
  config.layout = must(BlockLayout::make({kBlockBytes}, 1, 0));
  return config;
}

}  // namespace

void lookup_figures(const Arguments& a) {
  const auto keys = bench_keys(0, a.keys);
  const auto absent = bench_keys(a.keys, a.keys);
  const std::pair<const char*, bool> kinds[] = {{"Cache", false}, {"Cache", true}, {"Disk", false}};
  for (const auto& [spec, share] : kinds) {
    const PipelineConfig config = make_config(spec, share, a);
    double reopen = 0;
    auto store = must(Pipeline::open(config));
    fill(*store, keys);
    if (std::string(spec) == "Disk") {
      store.reset();
      const double start = now();
      store = must(Pipeline::open(config));
      reopen = now() - start;
    }
    std::printf(
        "{\"what\": \"lookup\", \"pipeline\": \"%s%s\", \"keys\": %zu, \"batch\": %zu, "
        "\"hit_ns\": %.1f, \"miss_ns\": %.1f, \"reopen_s\": %.3f}\n",
        spec, share ? " shared" : "", a.keys, kBatch, lookup_ns(*store, keys, 1),
        lookup_ns(*store, absent, 0), reopen);
    std::fflush(stdout);
  }
}

}  // namespace ucm::bench
