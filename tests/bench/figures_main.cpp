// SPDX-License-Identifier: Apache-2.0
// Figures of the store against bare limits. tests/bench/figures.py runs it and keeps the results.
#include <cstring>
#include <functional>
#include <map>

#include "figures.h"

namespace {

void usage() {
  std::fprintf(stderr,
               "usage: ucm_figures cache|disk-write|disk-read|idle|lookup|posix [folder=DIR] "
               "[block_bytes=N] [blocks=N] [rounds=N] [threads=N] [depth=N] [keys=N] "
               "[direct=0|1] [pack_bytes=N]\n");
  std::exit(2);
}

void parse(const char* word, ucm::bench::Arguments* arguments) {
  const char* equals = std::strchr(word, '=');
  if (!equals) usage();
  const std::string key(word, equals);
  const std::string value = equals + 1;
  if (key == "folder") {
    arguments->folder = value;
    return;
  }
  const std::map<std::string, std::function<void(size_t)>> numbers = {
      {"block_bytes", [&](size_t n) { arguments->block_bytes = n; }},
      {"blocks", [&](size_t n) { arguments->blocks = n; }},
      {"rounds", [&](size_t n) { arguments->rounds = static_cast<int>(n); }},
      {"threads", [&](size_t n) { arguments->threads = static_cast<unsigned>(n); }},
      {"depth", [&](size_t n) { arguments->depth = static_cast<int64_t>(n); }},
      {"keys", [&](size_t n) { arguments->keys = n; }},
      {"direct", [&](size_t n) { arguments->direct = n != 0; }},
      {"pack_bytes", [&](size_t n) { arguments->pack_bytes = n; }},
  };
  const auto found = numbers.find(key);
  if (found == numbers.end()) usage();
  found->second(std::strtoull(value.c_str(), nullptr, 10));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) usage();
  ucm::bench::Arguments arguments;
  for (int i = 2; i < argc; ++i) parse(argv[i], &arguments);
  const std::string what = argv[1];
  const std::map<std::string, void (*)(const ucm::bench::Arguments&)> figures = {
      {"cache", ucm::bench::cache_figures},   {"disk-write", ucm::bench::disk_write},
      {"disk-read", ucm::bench::disk_read},   {"idle", ucm::bench::idle_figures},
      {"lookup", ucm::bench::lookup_figures}, {"posix", ucm::bench::posix_figures},
  };
  const auto found = figures.find(what);
  if (found == figures.end()) usage();
  found->second(arguments);
  return 0;
}
