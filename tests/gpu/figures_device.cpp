// SPDX-License-Identifier: Apache-2.0
// How fast a platform copies scattered pieces, beside one large copy, and what pinning costs beside
// populating the pages. Prints one JSON object.
#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ucm/device.h"

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void must(const ucm::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  std::exit(1);
}

void print_rows(const ucm::CopyFigures& figures) {
  std::printf(",\n \"pinned\": %s, \"rows\": [", figures.pinned ? "true" : "false");
  const char* separator = "";
  for (const ucm::CopyFigure& row : figures.rows) {
    std::printf(
        "%s\n  {\"method\": \"%s\", \"piece_bytes\": %zu, \"h2d_gb_s\": %.3f, "
        "\"d2h_gb_s\": %.3f, \"both_gb_s\": %.3f}",
        separator, row.method.c_str(), row.piece_bytes, row.load, row.dump, row.both);
    separator = ",";
  }
  std::printf("\n ]");
}

void measure_pinning(ucm::Device* device, size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    must(ucm::make_status(ucm::Code::out_of_memory, "mmap of %zu bytes", bytes));
  }
  (void)madvise(memory, bytes, MADV_HUGEPAGE);
  const auto begin = Clock::now();
  if (madvise(memory, bytes, MADV_POPULATE_WRITE) != 0) std::memset(memory, 0, bytes);
  const double populate = seconds_since(begin);
  const auto middle = Clock::now();
  must(device->register_host(memory, bytes));
  const double pin = seconds_since(middle);
  std::printf(",\n \"pool\": {\"bytes\": %zu, \"populate_s\": %.4f, \"register_s\": %.4f}", bytes,
              populate, pin);
  must(device->unregister_host(memory));
  munmap(memory, bytes);
}

}  // namespace

// ucm_gpu_figures PLATFORM [MIB]: moves MIB/2 in each direction; 1024 by default.
int main(int argc, char** argv) {
  const char* platform = argc > 1 ? argv[1] : "cpu";
  ucm::CopySurvey survey;
  survey.bytes = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024) << 20;
  for (size_t piece = 4096; piece <= size_t{8} << 20 && piece <= survey.bytes / 16; piece *= 2) {
    survey.piece_bytes.push_back(piece);
  }
  const auto device = ucm::open_device(platform, 0);
  must(device.status());
  const auto figures = ucm::measure_copies(device.value().get(), survey);
  must(figures.status());
  std::printf("{\"platform\": \"%s\", \"rounds\": %d", platform, survey.rounds);
  print_rows(figures.value());
  measure_pinning(device.value().get(), survey.bytes);
  std::printf("}\n");
  return 0;
}
