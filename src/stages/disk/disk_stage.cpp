// SPDX-License-Identifier: Apache-2.0
#include "stages/disk/disk_stage.h"

#include <algorithm>

#include "io/paths.h"
#include "stages/disk/disk_inspect.h"
#include "stages/disk/slot_folders.h"
#include "store/batch_check.h"
#include "ucm/log.h"

namespace ucm::disk {
namespace {

// How often a reader looks for stores that were not there before.
constexpr int64_t kLookEveryNs = 500'000'000;
constexpr size_t kPrefixStep = 512;

int64_t steady_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

DiskStage::DiskStage(DiskOptions options, StageContext* context)
    : options_(std::move(options)),
      layout_(context->layout),
      reading_only_(context->read_only || context->layout.empty()),
      metrics_(std::make_shared<StageMetrics>(context->metrics, "Disk")),
      registry_(context->metrics),
      stores_(std::make_shared<Stores>()) {}

Result<StorePtr> DiskStage::open(StageContext context) {
  UCM_TRY_ASSIGN(DiskOptions options, read_disk_options(*context.options));
  if (!context.layout.empty() && (context.layout.pieces() != 1 || context.layout.shards() != 1)) {
    return make_status(Code::invalid_argument,
                       "disk: blocks come whole (one piece, one shard); put Cache in front");
  }
  if (context.layout.slot_bytes() > UINT32_MAX - kAlign) {
    return make_status(Code::invalid_argument, "disk: blocks of %zu bytes; the limit is 4 GiB",
                       context.layout.block_bytes());
  }
  for (const std::string& backend : options.backends) {
    const auto info = io::path_info(backend);
    if (info.ok() && !info.value().is_folder) {
      return make_status(Code::invalid_argument,
                         "storage_backends: %s is a file; give the path of a folder",
                         backend.c_str());
    }
  }
  std::unique_ptr<DiskStage> stage(new DiskStage(std::move(options), &context));
  if (!stage->reading_only_) UCM_TRY(stage->open_writers());
  return StorePtr(std::move(stage));
}

PageStoreOptions DiskStage::store_options(const std::string& path) {
  PageStoreOptions pages = options_.pages;
  pages.path = path;
  pages.read_only = reading_only_;
  pages.slot_bytes = layout_.slot_bytes();
  pages.layout_id = layout_.id();
  pages.block_bytes = static_cast<uint32_t>(layout_.block_bytes());
  // The hooks may outlive the stage when the storage hangs, so they hold the metrics themselves.
  const auto slot_bytes = static_cast<int64_t>(layout_.slot_bytes());
  pages.on_drop = [metrics = metrics_](std::string_view cause) {
    metrics->dropped(std::string(cause).c_str());
  };
  pages.on_pins = [metrics = metrics_](int64_t change) { metrics->pinned_blocks().add(change); };
  pages.on_refuse = [metrics = metrics_](size_t count) { metrics->refused_blocks().add(count); };
  pages.on_evict = [metrics = metrics_](size_t count) { metrics->evicted().add(count); };
  pages.on_blocks = [metrics = metrics_, slot_bytes](int64_t change) {
    metrics->blocks().add(change);
    metrics->used_bytes().add(change * slot_bytes);
  };
  return pages;
}

Status DiskStage::open_writers() {
  auto opened = std::make_shared<Stores>();
  std::vector<uint64_t> devices;
  for (const std::string& backend : options_.backends) {
    Status made = io::make_folders(backend, options_.pages.dir_mode,
                                   options_.pages.durability != Durability::none);
    if (!made.ok()) return std::move(made).with_context("storage_backends");
    UCM_TRY_ASSIGN(const io::PathInfo info, io::path_info(backend));
    devices.push_back(info.device);
  }
  uint64_t capacity = 0;
  for (size_t i = 0; i < options_.backends.size(); ++i) {
    const std::string& backend = options_.backends[i];
    const auto sharing =
        static_cast<uint64_t>(std::count(devices.begin(), devices.end(), devices[i]));
    PageStoreOptions pages = store_options(slot_folder_path(backend, layout_.slot_bytes()));
    UCM_TRY_ASSIGN(pages.capacity_bytes,
                   make_room(backend, layout_.slot_bytes(), options_.capacity_bytes, sharing));
    auto store = PageStore::open(pages);
    if (!store.ok()) return store.status().with_context("disk");
    capacity += store.value()->stats().capacity_bytes;
    opened->push_back(std::move(store).value());
  }
  metrics_->capacity_bytes().set(static_cast<int64_t>(capacity));
  shadow_ = CapacityShadow::make(options_.pages.eviction_policy, capacity / layout_.slot_bytes(),
                                 registry_.get(), "Disk");
  stores_ = std::move(opened);
  return {};
}

// Opens what has appeared since the last look: other processes make the stores.
void DiskStage::find_readers(Stores* found) {
  for (const std::string& backend : options_.backends) {
    std::vector<std::string> paths;
    if (layout_.empty()) {
      const auto folders = list_slot_folders(backend);
      if (!folders.ok()) continue;
      for (const SlotFolder& folder : folders.value()) paths.push_back(folder.path);
    } else {
      paths.push_back(slot_folder_path(backend, layout_.slot_bytes()));
    }
    for (const std::string& path : paths) {
      if (std::count(known_paths_.begin(), known_paths_.end(), path) > 0) continue;
      auto store = PageStore::open(store_options(path));
      if (!store.ok()) {
        if (store.status().code() != Code::not_found) {
          log(LogLevel::debug, "disk: %s: %s", path.c_str(), store.status().message().c_str());
        }
        continue;
      }
      known_paths_.push_back(path);
      found->push_back(std::move(store).value());
    }
  }
}

std::shared_ptr<const DiskStage::Stores> DiskStage::stores() {
  if (reading_only_ && !closed_) {
    const int64_t now = steady_ns();
    int64_t due = next_look_ns_.load(std::memory_order_relaxed);
    if (now >= due && next_look_ns_.compare_exchange_strong(due, now + kLookEveryNs)) {
      const std::unique_lock lock(mutex_);
      auto more = std::make_shared<Stores>(*stores_);
      find_readers(more.get());
      if (more->size() != stores_->size()) stores_ = std::move(more);
      return stores_;
    }
  }
  const std::shared_lock lock(mutex_);
  return stores_;
}

Status DiskStage::check_open() const {
  return closed_ ? make_status(Code::unavailable, "disk: the stage is closed") : Status();
}

void DiskStage::lookup_in(const Stores& stores, std::span<const BlockKey> keys,
                          std::span<uint8_t> present) {
  if (stores.empty()) std::fill(present.begin(), present.end(), uint8_t{0});
  for (size_t i = 0; i < stores.size(); ++i) {
    if (i == 0) {
      stores[i]->lookup(keys, present);
      continue;
    }
    std::vector<uint8_t> more(keys.size());
    stores[i]->lookup(keys, more);
    for (size_t k = 0; k < keys.size(); ++k) present[k] |= more[k];
  }
}

Status DiskStage::lookup(std::span<const BlockKey> keys, std::span<uint8_t> present) {
  UCM_TRY(check_open());
  if (present.size() != keys.size()) {
    return make_status(Code::invalid_argument, "lookup: %zu places for %zu keys", present.size(),
                       keys.size());
  }
  lookup_in(*stores(), keys, present);
  if (shadow_) shadow_->looked_up(keys, false);
  metrics_->looked_up(keys.size(),
                      static_cast<size_t>(std::count(present.begin(), present.end(), 1)));
  return {};
}

Result<size_t> DiskStage::lookup_prefix(std::span<const BlockKey> keys) {
  UCM_TRY(check_open());
  const auto all = stores();
  std::vector<uint8_t> present(std::min(keys.size(), kPrefixStep));
  size_t count = 0;
  size_t asked = 0;
  while (asked < keys.size() && asked == count) {
    const auto step = keys.subspan(asked, std::min(kPrefixStep, keys.size() - asked));
    const auto places = std::span(present).first(step.size());
    lookup_in(*all, step, places);
    count += static_cast<size_t>(std::find(places.begin(), places.end(), 0) - places.begin());
    asked += step.size();
  }
  metrics_->looked_up(asked, count);
  if (shadow_) shadow_->looked_up(keys.first(asked), true);
  return count;
}

Status DiskStage::prefetch(std::span<const BlockKey>) { return check_open(); }

Status DiskStage::remove(std::span<const BlockKey> keys) {
  UCM_TRY(check_open());
  if (reading_only_) {
    return make_status(Code::unsupported,
                       "disk: opened for reading only; open it with a layout to remove blocks");
  }
  if (shadow_) shadow_->removed(keys);
  for (const auto& store : *stores()) UCM_TRY(store->remove(keys));
  return {};
}

Status DiskStage::renew(std::span<const BlockKey> keys) {
  UCM_TRY(check_open());
  for (const auto& store : *stores()) store->renew(keys);
  return {};
}

Status DiskStage::pin(std::span<const BlockKey> keys, std::span<uint8_t> pinned) {
  UCM_TRY(check_open());
  if (reading_only_) {
    return make_status(Code::unsupported,
                       "disk: opened for reading only; open it with a layout to pin blocks");
  }
  std::fill(pinned.begin(), pinned.end(), uint8_t{0});
  std::vector<uint8_t> here(keys.size());
  for (const auto& store : *stores()) {
    UCM_TRY(store->pin(keys, here));
    for (size_t i = 0; i < keys.size(); ++i) pinned[i] |= here[i];
  }
  return {};
}

Status DiskStage::unpin(std::span<const BlockKey> keys) {
  UCM_TRY(check_open());
  if (reading_only_) {
    return make_status(Code::unsupported,
                       "disk: opened for reading only; open it with a layout to unpin blocks");
  }
  for (const auto& store : *stores()) UCM_TRY(store->unpin(keys));
  return {};
}

void DiskStage::close() {
  if (closed_.exchange(true)) return;
  std::shared_ptr<const Stores> open;
  {
    const std::unique_lock lock(mutex_);
    open = std::exchange(stores_, std::make_shared<Stores>());
  }
  // All of them within one timeout.
  const auto deadline = std::chrono::steady_clock::now() + options_.timeout;
  for (const auto& store : *open) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    store->close(std::max(left, std::chrono::milliseconds(1)));
  }
}

}  // namespace ucm::disk

namespace ucm {

extern const StageEntry disk_stage_entry;
const StageEntry disk_stage_entry = {
    "Disk", StageRole::storage, disk::disk_option_keys(),
    [](StageContext context) { return disk::DiskStage::open(std::move(context)); },
    disk::inspect_disk};

}  // namespace ucm
