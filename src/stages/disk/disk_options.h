// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ucm/options.h"
#include "ucm/pages.h"

namespace ucm::disk {

struct DiskOptions {
  std::vector<std::string> backends;
  bool round_robin = false;     // else the key picks the backend
  uint64_t capacity_bytes = 0;  // of each backend; 0: from the free space
  std::chrono::milliseconds timeout{30000};
  PageStoreOptions pages;  // what all page stores share; path, sizes and layout are set later
};

std::span<const std::string_view> disk_option_keys();
// invalid_argument naming the key and what is expected.
Result<DiskOptions> read_disk_options(const Options& options);

}  // namespace ucm::disk
