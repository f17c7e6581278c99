// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "ucm/device.h"
#include "ucm/status.h"

namespace ucm {

struct PoolOptions {
  size_t slot_bytes = 0;  // rounded up to kAlign
  size_t slots = 0;
  bool huge_pages =
      true;  // hugetlb -> transparent huge pages -> 4 KiB, what is reached is reported
  // Touch all pages at start, by several threads. An accelerator's pool is always touched: pinning
  // does it anyway, only slower.
  bool prefault = false;
  std::shared_ptr<Device> device;  // registers the memory and names the NUMA node; may be null
};

struct PoolStats {
  uint64_t total_bytes = 0;
  uint64_t used_bytes = 0;
  uint64_t peak_bytes = 0;
  uint64_t page_bytes = 0;  // page size actually reached
  std::string kind;         // "plain", "shared" (between processes), "pinned"
};

class Pool;

// A slot of a Pool that gives itself back. Move-only; empty after a move.
class UCM_API Lease {
 public:
  Lease() = default;
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  ~Lease() { reset(); }

  explicit operator bool() const { return pool_ != nullptr; }
  std::byte* data() const { return data_; }
  uint32_t slot() const { return slot_; }
  void reset();

 private:
  friend class Pool;
  Lease(std::shared_ptr<Pool> pool, std::byte* data, uint32_t slot)
      : pool_(std::move(pool)), data_(data), slot_(slot) {}
  std::shared_ptr<Pool> pool_;
  std::byte* data_ = nullptr;
  uint32_t slot_ = 0;
};

// Host memory in equal, kAlign-aligned slots. It knows no keys. Thread-safe; lives until the last
// Lease is gone. `try_lease` answers an empty Lease when all slots are out: it never blocks.
class UCM_API Pool : public std::enable_shared_from_this<Pool> {
 public:
  static Result<std::shared_ptr<Pool>> make(const PoolOptions& options);
  virtual ~Pool() = default;

  virtual Lease try_lease() = 0;
  virtual size_t slot_bytes() const = 0;
  virtual size_t slots() const = 0;
  virtual std::byte* slot_address(uint32_t slot) const = 0;
  virtual PoolStats stats() const = 0;

 protected:
  friend class Lease;
  virtual void give_back(uint32_t slot) = 0;
  Lease make_lease(uint32_t slot) { return Lease(shared_from_this(), slot_address(slot), slot); }
};

// All pools of this process together.
UCM_API PoolStats process_pool_stats();

}  // namespace ucm
