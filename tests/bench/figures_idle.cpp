// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <fstream>

#include "figures.h"

namespace ucm::bench {
namespace {

// Threads of this process that ucm has started, by /proc.
int our_threads() {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(entry.path() / "comm");
    std::string name;
    std::getline(file, name);
    count += name.starts_with("ucm-") ? 1 : 0;
  }
  return count;
}

}  // namespace

// What an open pipeline that nobody uses costs, after it was used once.
void idle_figures(const Arguments& a) {
  constexpr int kSeconds = 5;
  for (const char* spec : {"Cache", "Cache|Disk", "Cache|Posix", "Cache|Disk|Posix"}) {
    PipelineConfig config;
    config.spec = spec;
    config.options = {{"disk.storage_backends", std::vector<std::string>{a.folder + "/disk"}},
                      {"posix.storage_backends", std::vector<std::string>{a.folder + "/posix"}},
                      {"buffer_number", int64_t{16}}};
    config.layout = must(BlockLayout::make({a.block_bytes}, 1, 0));
    auto store = must(Pipeline::open(config));
    const BlockMemory memory(8, a.block_bytes, 1);
    const auto keys = bench_keys(0, 8);
    transfer(*store, Direction::dump, keys, memory);
    transfer(*store, Direction::load, keys, memory);
    std::vector<uint8_t> present(keys.size());
    must(store->lookup(keys, present));
    const double cpu = cpu_seconds();
    std::this_thread::sleep_for(std::chrono::seconds(kSeconds));
    std::printf(
        "{\"what\": \"idle\", \"pipeline\": \"%s\", \"seconds\": %d, \"cpu_ms_per_s\": %.3f, "
        "\"threads\": %d}\n",
        spec, kSeconds, (cpu_seconds() - cpu) / kSeconds * 1e3, our_threads());
    std::fflush(stdout);
  }
}

}  // namespace ucm::bench
