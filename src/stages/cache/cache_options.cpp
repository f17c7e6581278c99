// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/cache_options.h"

#include <algorithm>
#include <thread>

#include "base/checksum.h"
#include "base/eviction.h"
#include "base/option_reader.h"
#include "memory/region.h"
#include "store/quotas.h"
#include "ucm/log.h"

namespace ucm::stages::cache {
namespace {

constexpr size_t kDefaultPoolBytes = size_t{1} << 30;
constexpr uint32_t kMaxSlots = base::kTooManySlots - 1;
// Two copy as fast as most memories go, and a pipeline keeps to a few threads in all.
constexpr uint32_t kMostDefaultThreads = 2;

}  // namespace

Result<CacheOptions> CacheOptions::read(const Options& options) {
  const base::OptionReader reader(options, "cache");
  CacheOptions o;
  UCM_TRY(reader.read("buffer_number", &o.buffer_number));
  UCM_TRY(reader.read("cache_capacity", &o.cache_capacity));
  UCM_TRY(reader.read("pinned_pool_size", &o.pinned_pool_size));
  UCM_TRY(reader.read("max_pinned_size", &o.max_pinned_size));
  UCM_TRY(reader.read("retain", &o.retain));
  UCM_TRY(reader.read("prefault", &o.prefault));
  constexpr std::array<std::string_view, 2> kHugePages = {"auto", "off"};
  std::string huge_pages = "auto";
  UCM_TRY(reader.read_choice("huge_pages", kHugePages, &huge_pages));
  o.huge_pages = huge_pages == "auto";
  UCM_TRY(reader.read_choice("eviction_policy", base::eviction_policy_names(), &o.eviction_policy));
  UCM_TRY(reader.read_keeping(&o.second_use, &o.pin_limit));
  UCM_TRY(reader.read("share", &o.share));
  UCM_TRY(reader.read("unique_id", &o.unique_id));
  // Staging memory is given back at once: there is nothing to share.
  if (!o.retain) o.share = false;
  UCM_TRY(reader.read("namespace", &o.own_namespace));
  if (!o.own_namespace.empty()) UCM_TRY(check_namespace(o.own_namespace));
  UCM_TRY(reader.read("quotas", &o.quotas));
  UCM_TRY(reader.read("copy_threads", &o.copy_threads));
  if (o.copy_threads > 64) {
    return make_status(Code::invalid_argument, "option cache.copy_threads: expected 0 to 64");
  }
  if (o.copy_threads == 0) {
    o.copy_threads = std::clamp(std::thread::hardware_concurrency(), 1u, kMostDefaultThreads);
  }
  double timeout_s = 30;
  UCM_TRY(reader.read("timeout_s", &timeout_s));
  o.timeout = std::chrono::nanoseconds(static_cast<int64_t>(timeout_s * 1e9));
  return o;
}

uint32_t CacheOptions::slots(const BlockLayout& layout) const {
  const size_t slot_bytes = layout.slot_bytes();
  struct Limit {
    const char* name;
    uint64_t slots;
  };
  const uint64_t asked =
      std::max({buffer_number, cache_capacity, pinned_pool_size, max_pinned_size});
  std::array<Limit, 5> limits = {{
      {"buffer_number", buffer_number},
      {"cache_capacity", cache_capacity},
      {"pinned_pool_size", pinned_pool_size / slot_bytes},
      {"max_pinned_size", max_pinned_size / slot_bytes},
      {"half of the free memory", memory::memory_budget() / slot_bytes},
  }};
  // A byte limit below one slot still gives one; a limit that was not given does not count.
  if (pinned_pool_size != 0) limits[2].slots = std::max<uint64_t>(1, limits[2].slots);
  if (max_pinned_size != 0) limits[3].slots = std::max<uint64_t>(1, limits[3].slots);
  limits[4].slots = std::max<uint64_t>(1, limits[4].slots);
  Limit least = {"the default of 1 GiB", std::max<uint64_t>(1, kDefaultPoolBytes / slot_bytes)};
  if (asked != 0) least = limits[4];
  for (const Limit& limit : limits) {
    if (limit.slots != 0 && limit.slots < least.slots) least = limit;
  }
  const uint32_t slots = static_cast<uint32_t>(std::min<uint64_t>(least.slots, kMaxSlots));
  log(LogLevel::info, "cache: %u slots of %zu bytes (%zu MiB), decided by %s", slots, slot_bytes,
      (slots * slot_bytes) >> 20, least.name);
  return slots;
}

Result<uint32_t> CacheOptions::own_slots(uint32_t slots, size_t slot_bytes) const {
  if (quotas.empty()) return slots;
  const auto divided = Quotas::make(quotas, slots * slot_bytes);
  if (!divided.ok()) {
    return Status(divided.status())
        .with_context("cache: with share its slots are divided too; cache.quotas is for it alone");
  }
  UCM_TRY(divided.value().check_room(own_namespace));
  const uint64_t own = divided.value().bytes(divided.value().share_of(own_namespace)) / slot_bytes;
  if (own > 0) return static_cast<uint32_t>(own);
  return make_status(Code::invalid_argument,
                     "cache: the quota of namespace '%s' is less than one block of %zu bytes",
                     own_namespace.c_str(), slot_bytes);
}

PoolPlace CacheOptions::place() const {
  PoolPlace place{unique_id, {}};
  // A share is a pool of its own: nobody needs to count what each namespace has in it.
  if (!quotas.empty()) place.name += "\nquota " + Quotas::share_name(quotas, own_namespace);
  if (!own_namespace.empty()) {
    place.mask = {base::digest_64(own_namespace.data(), own_namespace.size(), 0),
                  base::digest_64(own_namespace.data(), own_namespace.size(), 1)};
  }
  return place;
}

}  // namespace ucm::stages::cache
