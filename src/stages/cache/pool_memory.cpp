// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/pool_memory.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "base/checksum.h"
#include "ucm/log.h"

namespace ucm::stages::cache {
namespace {

using memory::SharedSegment;
using memory::SlotMemory;

constexpr size_t kHugePage = size_t{2} << 20;
constexpr const char* kSuffix = ".pool";

Result<SlotDirectory::Shape> shape_for(const BlockLayout& layout, const PoolOptions& options,
                                       std::string_view policy) {
  // Also answers whether the policy is possible for so many slots.
  UCM_TRY(base::eviction_state_bytes(policy, static_cast<uint32_t>(options.slots), true).status());
  const auto names = base::eviction_policy_names();
  const auto place = std::find(names.begin(), names.end(), policy) - names.begin();
  return SlotDirectory::Shape{static_cast<uint32_t>(options.slots), layout.shards(),
                              static_cast<uint32_t>(place)};
}

// Slots begin at a huge page of the file.
size_t slots_offset(const SlotDirectory::Shape& shape) {
  const size_t end = SharedSegment::kDataOffset + SlotDirectory::bytes(shape);
  return align_up(end, kHugePage) - SharedSegment::kDataOffset;
}

// Any text may be a name; a file name is made of its digest. Process numbers mean something within
// one namespace only, so containers that share the directory but not them meet in other files.
std::string file_prefix(const std::string& name) {
  struct stat space = {};
  (void)::stat("/proc/self/ns/pid", &space);
  char text[48];
  std::snprintf(text, sizeof(text), "%016llx-%llx-",
                static_cast<unsigned long long>(base::digest_64(name.data(), name.size(), 0)),
                static_cast<unsigned long long>(space.st_ino));
  return text;
}

std::string file_name(const std::string& name, const BlockLayout& layout) {
  char text[80];
  std::snprintf(text, sizeof(text), "%zx-%x-%llx%s", layout.block_bytes(), layout.shards(),
                static_cast<unsigned long long>(layout.id()), kSuffix);
  return file_prefix(name) + text;
}

Result<SlotDirectory> directory_of(const SharedSegment& segment, const std::string& path) {
  if (!SlotDirectory::fits(segment.data(), segment.bytes())) {
    return make_status(Code::unsupported,
                       "cache: the pool of %s was made by another build of ucm; stop the processes "
                       "that use it or give this one another unique_id",
                       path.c_str());
  }
  return SlotDirectory(segment.data(), SlotDirectory::shape_of(segment.data()));
}

}  // namespace

Result<PoolMemory> make_own_pool(const BlockLayout& layout, const PoolOptions& options,
                                 std::string_view policy) {
  UCM_TRY_ASSIGN(const SlotDirectory::Shape shape, shape_for(layout, options, policy));
  PoolMemory pool;
  UCM_TRY_ASSIGN(pool.slots, SlotMemory::make(options));
  const size_t bytes = SlotDirectory::bytes(shape);
  // Zeroed by the kernel, page by page as slots come into use.
  pool.own.reset(static_cast<std::byte*>(std::calloc(1, bytes + kLine)));
  if (!pool.own) return make_status(Code::out_of_memory, "cache: an index of %zu bytes", bytes);
  const auto start = align_up(reinterpret_cast<uintptr_t>(pool.own.get()), kLine);
  pool.directory = SlotDirectory(reinterpret_cast<std::byte*>(start), shape);
  pool.directory.format(layout.slot_bytes(), layout.id());
  return pool;
}

Result<PoolMemory> join_shared_pool(const PoolPlace& place, const BlockLayout& layout,
                                    const PoolOptions& options, std::string_view policy) {
  UCM_TRY_ASSIGN(const SlotDirectory::Shape wanted, shape_for(layout, options, policy));
  UCM_TRY_ASSIGN(const std::string directory, memory::runtime_directory());
  const std::string path = directory + "/" + file_name(place.name, layout);
  const size_t bytes = slots_offset(wanted) + options.slots * options.slot_bytes;
  PoolMemory pool;
  pool.mask = place.mask;
  UCM_TRY_ASSIGN(pool.segment, SharedSegment::join(path, bytes, [&](std::byte* data) {
                   SlotDirectory(data, wanted).format(layout.slot_bytes(), layout.id());
                 }));
  UCM_TRY_ASSIGN(pool.directory, directory_of(*pool.segment, path));
  const uint32_t slots = pool.directory.slots();
  const std::string has_policy(pool.directory.policy_name());
  if (slots != wanted.slots || has_policy != policy) {
    log(LogLevel::info,
        "cache: the pool of %s is there already, with %u slots and policy %s instead of %u and %s",
        path.c_str(), slots, has_policy.c_str(), wanted.slots, std::string(policy).c_str());
  }
  PoolOptions found = options;
  found.slots = slots;
  const size_t begin = slots_offset(SlotDirectory::shape_of(pool.segment->data()));
  const DirectoryHeader& header = pool.directory.header();
  if (header.slot_bytes != layout.slot_bytes() || header.shards != layout.shards() ||
      begin + slots * header.slot_bytes > pool.segment->bytes()) {
    return make_status(Code::unsupported, "cache: the pool of %s is not one of blocks like these",
                       path.c_str());
  }
  std::byte* start = pool.segment->data() + begin;
  UCM_TRY_ASSIGN(pool.slots, SlotMemory::over(start, found));
  return pool;
}

Result<std::vector<std::string>> find_shared_pools(const std::string& name) {
  UCM_TRY_ASSIGN(const std::string directory, memory::runtime_directory());
  const std::string prefix = file_prefix(name);
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& file : std::filesystem::directory_iterator(directory, error)) {
    const std::string found = file.path().filename().string();
    if (found.starts_with(prefix) && found.ends_with(kSuffix)) paths.push_back(file.path());
  }
  if (error) return errno_status(error.value(), "cache: list %s", directory.c_str());
  return paths;
}

Result<PoolMemory> watch_shared_pool(const std::string& path) {
  PoolMemory pool;
  UCM_TRY_ASSIGN(pool.segment, SharedSegment::find(path));
  UCM_TRY_ASSIGN(pool.directory, directory_of(*pool.segment, path));
  return pool;
}

}  // namespace ucm::stages::cache
