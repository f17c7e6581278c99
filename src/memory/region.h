// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "ucm/device.h"
#include "ucm/status.h"

namespace ucm::memory {

struct RegionOptions {
  size_t bytes = 0;
  bool huge_pages = true;
  bool prefault = false;
  std::shared_ptr<Device> device;  // may be null
  bool place = true;               // near the device; false leaves the placement as it is
};

// One anonymous mapping on the largest pages this machine gives: reserved huge pages, else
// transparent huge pages, else plain ones. Bound to the device's NUMA node where there is one and
// registered with the device. Pre-faulting, by several threads, is over when `make` returns.
class Region {
 public:
  static Result<std::unique_ptr<Region>> make(const RegionOptions& options);
  // The same over a shared mapping of `options.bytes` that its owner unmaps after this object.
  static Result<std::unique_ptr<Region>> over(std::byte* start, const RegionOptions& options);
  ~Region();
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  size_t page_bytes() const { return page_bytes_; }
  bool pinned() const { return pinned_; }
  bool shared() const { return shared_; }

 private:
  Region();
  Status map(size_t bytes, bool huge_pages);
  void adopt(std::byte* start, size_t bytes, bool huge_pages);
  // Places, touches and registers what is mapped.
  Status equip(const RegionOptions& options);
  void bind_to_node(int node);
  void prefault();

  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  size_t page_bytes_;
  bool pinned_ = false;
  bool shared_ = false;
  std::shared_ptr<Device> device_;
};

// Bytes a new pool may take: half of what the machine and its control group have left.
size_t memory_budget();

}  // namespace ucm::memory
