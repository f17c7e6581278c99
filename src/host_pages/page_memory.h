// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>

#include "memory/meeting_file.h"
#include "memory/region.h"
#include "ucm/host_pages.h"

namespace ucm::host_pages {

// The bytes of the pages: a memfd on reserved huge pages where the machine has enough of them,
// else on what shared memory gives. Its descriptor stays open so that others can reach it.
class PageMemory {
 public:
  static Result<std::unique_ptr<PageMemory>> make(size_t bytes, const HostPagesOptions& options);
  // What another process made, by its process number and descriptor.
  static Result<std::unique_ptr<PageMemory>> reach(int pid, int descriptor, size_t bytes,
                                                   const HostPagesOptions& options);
  ~PageMemory();
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  std::byte* data() const { return data_; }
  int descriptor() const { return file_.number(); }
  size_t page_bytes() const { return page_bytes_; }
  bool spread() const { return spread_; }
  bool pinned() const { return region_ && region_->pinned(); }

 private:
  PageMemory() = default;
  Status create(size_t bytes, bool reserved_pages);
  Status map(size_t bytes);
  // Places, touches and registers this process's mapping.
  Status equip(const HostPagesOptions& options);

  memory::Descriptor file_;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
  size_t page_bytes_ = 0;
  bool spread_ = false;
  std::unique_ptr<memory::Region> region_;
};

}  // namespace ucm::host_pages
