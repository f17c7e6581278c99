// SPDX-License-Identifier: Apache-2.0
#include "stages/disk/disk_options.h"

#include <algorithm>
#include <array>

#include "base/eviction.h"
#include "base/option_reader.h"

namespace ucm::disk {
namespace {

constexpr std::array<std::string_view, 18> kKeys = {
    "admission",     "pin_limit",    "capacity_bytes",  "dir_mode",      "durability",
    "eviction_high", "eviction_low", "eviction_policy", "file_mode",     "io_depth",
    "io_direct",     "io_threads",   "path_strategy",   "segment_bytes", "storage_backends",
    "timeout_s",     "use_io_uring", "verify"};
constexpr std::array<std::string_view, 3> kVerify = {"always", "sample", "never"};
constexpr std::array<std::string_view, 3> kDurability = {"none", "group", "strict"};
constexpr std::array<std::string_view, 2> kStrategies = {"hash", "round_robin"};

// The position of `word` in `names`, which holds it.
template <size_t N>
size_t position(const std::array<std::string_view, N>& names, std::string_view word) {
  return static_cast<size_t>(std::find(names.begin(), names.end(), word) - names.begin());
}

Status read_words(const base::OptionReader& reader, DiskOptions* out) {
  std::string verify = "always";
  UCM_TRY(reader.read_choice("verify", kVerify, &verify));
  out->pages.verify = static_cast<Verify>(position(kVerify, verify));
  std::string durability = "none";
  UCM_TRY(reader.read_choice("durability", kDurability, &durability));
  out->pages.durability = static_cast<Durability>(position(kDurability, durability));
  std::string strategy = "hash";
  UCM_TRY(reader.read_choice("path_strategy", kStrategies, &strategy));
  out->round_robin = position(kStrategies, strategy) == 1;
  return reader.read_choice("eviction_policy", base::eviction_policy_names(),
                            &out->pages.eviction_policy);
}

Status check(const DiskOptions& options) {
  if (options.backends.empty()) {
    return make_status(Code::invalid_argument,
                       "storage_backends: give the Disk stage a folder, or a list of folders");
  }
  for (size_t i = 0; i < options.backends.size(); ++i) {
    const std::string& path = options.backends[i];
    if (path.empty()) return make_status(Code::invalid_argument, "storage_backends: an empty path");
    if (std::count(options.backends.begin(), options.backends.end(), path) > 1) {
      return make_status(Code::invalid_argument, "storage_backends: %s is named twice",
                         path.c_str());
    }
  }
  if (options.pages.io_threads == 0 || options.pages.io_threads > 256) {
    return make_status(Code::invalid_argument, "io_threads: expected 1 to 256");
  }
  if (options.pages.io_depth == 0 || options.pages.io_depth > 4096) {
    return make_status(Code::invalid_argument, "io_depth: expected 1 to 4096");
  }
  if (options.pages.dir_mode > 0777 || options.pages.file_mode > 0777) {
    return make_status(Code::invalid_argument,
                       "dir_mode, file_mode: expected at most 0777 (octal)");
  }
  return {};
}

}  // namespace

std::span<const std::string_view> disk_option_keys() { return kKeys; }

Result<DiskOptions> read_disk_options(const Options& options) {
  const base::OptionReader reader(options, "disk");
  DiskOptions out;
  PageStoreOptions& pages = out.pages;
  UCM_TRY(reader.read("storage_backends", &out.backends));
  UCM_TRY(reader.read("capacity_bytes", &out.capacity_bytes));
  UCM_TRY(reader.read("segment_bytes", &pages.segment_bytes));
  UCM_TRY(reader.read("io_direct", &pages.io_direct));
  UCM_TRY(reader.read("use_io_uring", &pages.use_io_uring));
  UCM_TRY(reader.read("io_threads", &pages.io_threads));
  UCM_TRY(reader.read("io_depth", &pages.io_depth));
  UCM_TRY(reader.read("eviction_high", &pages.eviction_high));
  UCM_TRY(reader.read("eviction_low", &pages.eviction_low));
  UCM_TRY(reader.read_keeping(&pages.second_use, &pages.pin_limit));
  UCM_TRY(reader.read("dir_mode", &pages.dir_mode));
  UCM_TRY(reader.read("file_mode", &pages.file_mode));
  UCM_TRY(read_words(reader, &out));
  double seconds = 30;
  UCM_TRY(reader.read("timeout_s", &seconds));
  if (!(seconds > 0 && seconds < 1e6)) {
    return make_status(Code::invalid_argument, "timeout_s: expected a number above 0");
  }
  out.timeout = std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
  // "/a/" and "/a" are one backend.
  for (std::string& path : out.backends) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
  }
  UCM_TRY(check(out));
  return out;
}

}  // namespace ucm::disk
