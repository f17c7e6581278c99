// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>

#include "figures.h"

namespace ucm::bench {
namespace {

namespace fs = std::filesystem;

std::string hex_name(uint64_t number) { return bench_key(number).hex(); }

// The limit: what `threads` threads need for the system calls alone, with the same names, folders
// and bytes (payload and a page behind it). Answers seconds.
class BareFiles {
 public:
  BareFiles(const Arguments& a, std::string folder) : a_(a), folder_(std::move(folder)) {
    for (int i = 0; i < 256; ++i) {
      char name[4];
      std::snprintf(name, sizeof name, "%02x", i);
      fs::create_directories(fs::path(folder_) / name);
    }
  }

  double write(uint64_t first, const BlockMemory& memory) const {
    return each([&](size_t block) {
      const std::string name = hex_name(first + block);
      const std::string place = folder_ + "/" + name.substr(0, 2) + "/";
      const std::string aside = place + ".t-" + std::to_string(block);
      const int fd =
          ::open(aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | direct(), 0600);
      const iovec parts[2] = {{memory.at(block), a_.block_bytes}, {memory.at(0), kAlign}};
      const auto wanted = static_cast<ssize_t>(a_.block_bytes + kAlign);
      if (fd < 0 || ::pwritev(fd, parts, 2, 0) != wanted) return false;
      ::close(fd);
      return ::rename(aside.c_str(), (place + name).c_str()) == 0;
    });
  }

  double read(uint64_t first, const BlockMemory& memory) const {
    return each([&](size_t block) {
      const std::string name = hex_name(first + block);
      const std::string path = folder_ + "/" + name.substr(0, 2) + "/" + name;
      const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | direct());
      const auto wanted = static_cast<ssize_t>(a_.block_bytes);
      if (fd < 0 || ::pread(fd, memory.at(block), a_.block_bytes, 0) != wanted) return false;
      return ::close(fd) == 0;
    });
  }

 private:
  int direct() const { return a_.direct ? O_DIRECT : 0; }

  template <typename Work>
  double each(Work work) const {
    std::atomic<size_t> next{0};
    std::atomic<bool> good{true};
    const double start = now();
    std::vector<std::thread> workers;
    for (unsigned t = 0; t < a_.threads; ++t) {
      workers.emplace_back([&] {
        for (size_t i = next++; i < a_.blocks && good; i = next++) {
          if (!work(i)) good = false;
        }
      });
    }
    for (std::thread& worker : workers) worker.join();
    const double seconds = now() - start;
    if (good) return seconds;
    std::perror("ucm_figures: a bare call failed");
    std::exit(1);
  }

  const Arguments& a_;
  const std::string folder_;
};

// Both sides start from a disk that is up to date and a page cache without their files.
void settle(const std::string& folder) {
  ::sync();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

std::unique_ptr<Pipeline> open_posix(const Arguments& a, const std::string& folder) {
  PipelineConfig config;
  config.spec = "Posix";
  config.options = {{"storage_backends", std::vector<std::string>{folder}},
                    {"buffer_number", static_cast<int64_t>(a.slots())},
                    {"io_direct", a.direct},
                    {"pack_bytes", static_cast<int64_t>(a.pack_bytes)},
                    {"io_threads", static_cast<int64_t>(a.threads)}};
  config.layout = must(BlockLayout::make({a.block_bytes}, 1, 0));
  return must(Pipeline::open(config));
}

// All blocks at once, or one after the other where the depth is 1.
Stretch move(Store& store, Direction direction, const std::vector<BlockKey>& keys,
             const BlockMemory& memory, const Arguments& a) {
  Stretch stretch;
  if (a.depth > 1) {
    transfer(store, direction, keys, memory);
  } else {
    for (size_t i = 0; i < keys.size(); ++i) {
      Batch batch;
      batch.keys = std::span(keys).subspan(i, 1);
      batch.addresses = memory.addresses().subspan(i, 1);
      const TaskPtr task = direction == Direction::dump ? store.dump(batch) : store.load(batch);
      must(task->wait(std::chrono::seconds(120)));
    }
  }
  stretch.stop();
  return stretch;
}

}  // namespace

void posix_figures(const Arguments& a) {
  const std::string bare_folder = a.folder + "/bare";
  const std::string our_folder = a.folder + "/ours";
  const BareFiles bare(a, bare_folder);
  auto store = open_posix(a, our_folder);
  const BlockMemory source(a.blocks, a.block_bytes, 1);
  const BlockMemory target(a.blocks, a.block_bytes, 2);
  Series write;
  Series read;
  const double gigabytes = static_cast<double>(a.blocks * a.block_bytes) / 1e9;
  // The first rounds make the folders and touch the memory.
  for (int round = -1; round < a.rounds; ++round) {
    const uint64_t first = static_cast<uint64_t>(round + 1) * a.blocks;
    const auto keys = bench_keys(first, a.blocks);
    settle(a.folder);
    double limit = bare.write(first, source);
    settle(a.folder);
    const Stretch ours = move(*store, Direction::dump, keys, source, a);
    if (round >= 0) write.add(limit, ours);
    settle(a.folder);
    limit = bare.read(first, target);
    settle(a.folder);
    const Stretch again = move(*store, Direction::load, keys, target, a);
    check_same(source, target, a.blocks, a.block_bytes);
    if (round >= 0) read.add(limit, again);
    must(store->remove(keys));
    fs::remove_all(bare_folder);
    BareFiles folders(a, bare_folder);
  }
  std::printf(
      "{\"what\": \"posix\", \"block_bytes\": %zu, \"blocks\": %zu, \"threads\": %u, "
      "\"depth\": %ld, \"direct\": %s, \"pack_bytes\": %zu, \"rounds\": %d, %s, %s}\n",
      a.block_bytes, a.blocks, a.threads, static_cast<long>(a.depth), a.direct ? "true" : "false",
      a.pack_bytes, a.rounds, write.text("write", gigabytes).c_str(),
      read.text("read", gigabytes).c_str());
}

}  // namespace ucm::bench
