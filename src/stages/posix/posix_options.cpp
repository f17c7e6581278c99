// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_options.h"

#include <algorithm>
#include <array>

#include "base/option_reader.h"

namespace ucm::posix {
namespace {

constexpr std::array<std::string_view, 2> kStrategies = {"hash", "round_robin"};
constexpr std::array<std::string_view, 3> kVerify = {"always", "sample", "never"};
constexpr std::array<std::string_view, 3> kDurability = {"none", "group", "strict"};

// Reads a choice whose position among `names` is the value of the enumeration.
template <typename Choice, size_t N>
Status read_enum(const base::OptionReader& reader, std::string_view key,
                 const std::array<std::string_view, N>& names, Choice* target) {
  std::string text(names[static_cast<size_t>(*target)]);
  UCM_TRY(reader.read_choice(key, names, &text));
  const auto found = std::find(names.begin(), names.end(), text);
  *target = static_cast<Choice>(found - names.begin());
  return {};
}

// Given or not: a default that is read twice comes back once each way.
Status read_direct(const base::OptionReader& reader, std::optional<bool>* target) {
  bool or_true = true;
  bool or_false = false;
  UCM_TRY(reader.read("io_direct", &or_true));
  UCM_TRY(reader.read("io_direct", &or_false));
  if (or_true == or_false) *target = or_true;
  return {};
}

Status check_roots(const std::vector<std::string>& roots) {
  if (roots.empty()) {
    return make_status(Code::invalid_argument,
                       "posix.storage_backends: name at least one directory for the blocks");
  }
  for (size_t i = 0; i < roots.size(); ++i) {
    if (roots[i].empty()) {
      return make_status(Code::invalid_argument, "posix.storage_backends: entry %zu is empty", i);
    }
    if (std::find(roots.begin(), roots.begin() + static_cast<ptrdiff_t>(i), roots[i]) !=
        roots.begin() + static_cast<ptrdiff_t>(i)) {
      return make_status(Code::invalid_argument, "posix.storage_backends: '%s' is named twice",
                         roots[i].c_str());
    }
  }
  return {};
}

Status check_numbers(const PosixOptions& options) {
  if (options.io_threads < 1 || options.io_threads > 1024) {
    return make_status(Code::invalid_argument, "posix.io_threads: %u is not from 1 to 1024",
                       options.io_threads);
  }
  if (!(options.eviction_low >= 0 && options.eviction_low < options.eviction_high &&
        options.eviction_high <= 1)) {
    return make_status(Code::invalid_argument,
                       "posix.eviction_low %g and eviction_high %g: expected 0 <= low < high <= 1",
                       options.eviction_low, options.eviction_high);
  }
  constexpr uint64_t kLargestPacked = uint64_t{1} << 20;
  if (options.pack_bytes > kLargestPacked) {
    return make_status(Code::invalid_argument, "posix.pack_bytes: expected 0 to 1 MiB");
  }
  if (options.dir_mode > 07777 || options.file_mode > 07777) {
    return make_status(Code::invalid_argument,
                       "posix.dir_mode and file_mode: expected permissions up to 07777");
  }
  // Half a year keeps every deadline far from the end of the clock.
  constexpr double kLongest = 1.6e7;
  if (!(options.timeout_s > 0 && options.timeout_s <= kLongest)) {
    return make_status(Code::invalid_argument,
                       "posix.timeout_s: %g is not a number of seconds above 0", options.timeout_s);
  }
  if (!(options.lookup_ttl_s >= 0 && options.lookup_ttl_s <= kLongest)) {
    return make_status(Code::invalid_argument,
                       "posix.lookup_ttl_s: %g is not a number of seconds from 0",
                       options.lookup_ttl_s);
  }
  return {};
}

Status read_quotas(const base::OptionReader& reader, PosixOptions* out) {
  UCM_TRY(reader.read("namespace", &out->own_namespace));
  if (!out->own_namespace.empty()) UCM_TRY(check_namespace(out->own_namespace));
  std::vector<std::string> entries;
  UCM_TRY(reader.read("quotas", &entries));
  UCM_TRY_ASSIGN(out->quotas, Quotas::make(entries, out->capacity_bytes));
  return out->quotas.check_room(out->own_namespace);
}

}  // namespace

uint64_t PosixOptions::own_bytes() const {
  const uint64_t each = quotas.bytes(quotas.share_of(own_namespace));
  return each > Quotas::kNoLimit / roots.size() ? Quotas::kNoLimit : each * roots.size();
}

Result<PosixOptions> read_posix_options(const Options& options) {
  const base::OptionReader reader(options, "posix");
  PosixOptions out;
  UCM_TRY(reader.read("storage_backends", &out.roots));
  UCM_TRY(read_enum(reader, "path_strategy", kStrategies, &out.path_strategy));
  UCM_TRY(read_enum(reader, "verify", kVerify, &out.verify));
  UCM_TRY(read_enum(reader, "durability", kDurability, &out.durability));
  UCM_TRY(read_direct(reader, &out.io_direct));
  UCM_TRY(reader.read("io_threads", &out.io_threads));
  UCM_TRY(reader.read("capacity_bytes", &out.capacity_bytes));
  UCM_TRY(reader.read("eviction_high", &out.eviction_high));
  UCM_TRY(reader.read("eviction_low", &out.eviction_low));
  UCM_TRY(reader.read_keeping(&out.second_use, &out.pin_limit));
  UCM_TRY(reader.read("dir_mode", &out.dir_mode));
  UCM_TRY(reader.read("file_mode", &out.file_mode));
  UCM_TRY(reader.read("retry_count", &out.retry_count));
  UCM_TRY(reader.read("lookup_ttl_s", &out.lookup_ttl_s));
  UCM_TRY(reader.read("pack_bytes", &out.pack_bytes));
  UCM_TRY(reader.read("timeout_s", &out.timeout_s));
  if (Status status = read_quotas(reader, &out); !status.ok()) {
    return std::move(status).with_context("posix");
  }
  for (std::string& root : out.roots) {
    while (root.size() > 1 && root.back() == '/') root.pop_back();
  }
  UCM_TRY(check_roots(out.roots));
  UCM_TRY(check_numbers(out));
  return out;
}

}  // namespace ucm::posix
