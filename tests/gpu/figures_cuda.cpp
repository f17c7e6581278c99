// SPDX-License-Identifier: Apache-2.0
// How fast the copies of platforms/cuda are, each method by piece size, direction and both at once,
// beside one large pinned copy of the same run. Prints one JSON object.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "cuda_calls.h"
#include "measure.h"

namespace ucm::cuda_like {
namespace {

using Clock = std::chrono::steady_clock;
using CudaDevice = LikeDevice<CudaCalls>;
constexpr int kRounds = 5;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  std::exit(1);
}

// Pinned host memory and device memory of one size, one half for each direction.
struct Memory {
  size_t bytes;
  std::byte* host;
  std::byte* far;
};

std::vector<CopyPiece> pieces_of(const Memory& memory, Direction direction, size_t piece_bytes,
                                 bool scattered) {
  const size_t half = memory.bytes / 2;
  const size_t count = half / piece_bytes;
  const size_t base = direction == Direction::load ? 0 : half;
  std::vector<CopyPiece> pieces;
  for (size_t i = 0; i < count; ++i) {
    // 7 is coprime with the counts, which are powers of two: no neighbours, no pitch.
    const size_t far_place = scattered ? (i * 7 + 3) % count : i;
    std::byte* far = memory.far + base + far_place * piece_bytes;
    std::byte* near = memory.host + base + i * piece_bytes;
    if (direction == Direction::load) {
      pieces.push_back({far, near, piece_bytes});
    } else {
      pieces.push_back({near, far, piece_bytes});
    }
  }
  return pieces;
}

// GB/s of one direction; `seconds` gets the median round.
double run(CudaDevice* device, const std::vector<CopyPiece>& pieces, Direction direction) {
  must(device->bind_thread());
  auto stream = device->make_stream(direction);
  must(stream.status());
  size_t bytes = 0;
  for (const CopyPiece& piece : pieces) bytes += piece.bytes;
  std::vector<double> rounds;
  for (int round = 0; round <= kRounds; ++round) {
    const auto begin = Clock::now();
    must(device->copy(stream.value(), direction, pieces));
    must(device->synchronize(stream.value()));
    if (round > 0) rounds.push_back(static_cast<double>(bytes) / seconds_since(begin) / 1e9);
  }
  device->destroy_stream(stream.value());
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

// Both directions at once: the sum of what both reach while both run.
double run_both(CudaDevice* device, const Memory& memory, size_t piece_bytes, bool scattered) {
  double load = 0;
  std::thread other([&] {
    load = run(device, pieces_of(memory, Direction::load, piece_bytes, scattered), Direction::load);
  });
  const double dump =
      run(device, pieces_of(memory, Direction::dump, piece_bytes, scattered), Direction::dump);
  other.join();
  return load + dump;
}

void print_row(const char* method, size_t piece, double load, double dump, double both,
               bool* first) {
  std::printf(
      "%s\n  {\"method\": \"%s\", \"piece_bytes\": %zu, \"h2d_gb_s\": %.3f, "
      "\"d2h_gb_s\": %.3f, \"both_gb_s\": %.3f}",
      *first ? "" : ",", method, piece, load, dump, both);
  *first = false;
}

struct Method {
  const char* name;
  MethodTable table;
};

void measure_methods(const Memory& memory) {
  const CudaBatch batch = CudaBatch::find();
  const MethodTable measured = measure<CudaCalls>(0, batch);
  std::vector<Method> methods = {{"each", {}}, {"chosen", measured}};
  if (measured.batch) methods.push_back({"batch", {true, false, {}}});
  if (measured.kernel) {
    methods.push_back({"kernel", {false, true, {kCopySurely, kCopySurely}}});
  }
  std::printf(",\n \"kernel_below\": [%zu, %zu], \"rows\": [", measured.kernel_below[0],
              measured.kernel_below[1]);
  bool first = true;
  for (const Method& method : methods) {
    CudaDevice device(0, batch, method.table);
    must(device.register_host(memory.host, memory.bytes));
    for (size_t piece = 4096; piece <= size_t{8} << 20 && piece <= memory.bytes / 16; piece *= 2) {
      // The planner gives larger pieces to the copy engine.
      if (std::string(method.name) == "kernel" && piece >= kCopySurely) break;
      const auto load = pieces_of(memory, Direction::load, piece, true);
      const auto dump = pieces_of(memory, Direction::dump, piece, true);
      print_row(method.name, piece, run(&device, load, Direction::load),
                run(&device, dump, Direction::dump), run_both(&device, memory, piece, true),
                &first);
    }
    if (std::string(method.name) == "each") {
      const size_t whole = memory.bytes / 2;
      const auto load = pieces_of(memory, Direction::load, whole, false);
      const auto dump = pieces_of(memory, Direction::dump, whole, false);
      print_row("one large copy", whole, run(&device, load, Direction::load),
                run(&device, dump, Direction::dump), run_both(&device, memory, whole, false),
                &first);
    }
    must(device.unregister_host(memory.host));
  }
  std::printf("\n ]");
}

std::byte* map(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) must(make_status(Code::out_of_memory, "mmap of %zu bytes", bytes));
  (void)madvise(memory, bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

// What pinning costs beside populating the pages.
void measure_pinning(size_t bytes) {
  std::byte* memory = map(bytes);
  const auto begin = Clock::now();
  if (madvise(memory, bytes, MADV_POPULATE_WRITE) != 0) std::memset(memory, 0, bytes);
  const double populate = seconds_since(begin);
  CudaDevice device(0, {}, {});
  const auto middle = Clock::now();
  must(device.register_host(memory, bytes));
  const double pin = seconds_since(middle);
  std::printf(",\n \"pool\": {\"bytes\": %zu, \"populate_s\": %.4f, \"register_s\": %.4f}", bytes,
              populate, pin);
  must(device.unregister_host(memory));
  munmap(memory, bytes);
}

}  // namespace
}  // namespace ucm::cuda_like

// figures_cuda [MIB]: moves MIB/2 in each direction; 1024 by default.
int main(int argc, char** argv) {
  using namespace ucm::cuda_like;
  const size_t bytes = (argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1024) << 20;
  const auto devices = count_devices<ucm::CudaCalls>();
  must(devices.status());
  Memory memory = {bytes, map(bytes), nullptr};
  std::memset(memory.host, 1, bytes);
  void* far = nullptr;
  if (ucm::CudaCalls::alloc(&far, bytes) != 0) {
    must(ucm::make_status(ucm::Code::out_of_memory, "%zu bytes of device memory", bytes));
  }
  memory.far = static_cast<std::byte*>(far);
  int driver = 0;
  int runtime = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  std::printf("{\"driver\": %d, \"runtime\": %d, \"rounds\": %d", driver, runtime, kRounds);
  measure_methods(memory);
  measure_pinning(bytes);
  std::printf("}\n");
  (void)ucm::CudaCalls::free(far);
  munmap(memory.host, bytes);
  return 0;
}
