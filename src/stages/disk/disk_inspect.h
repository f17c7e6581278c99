// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "ucm/inspect.h"

namespace ucm::disk {

// `path` is a page store, a storage backend, or a folder of backends (rank-0, rank-1, ...).
Status inspect_disk(const std::string& path, bool verify, const BlockVisitor& visit);

}  // namespace ucm::disk
