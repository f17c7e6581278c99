// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "io/lock_file.h"
#include "ucm/page_service.h"

namespace ucm::page_service {

// The folder of a service: LOCK (one owner), SCOPE (whose pages these are), pages/ (the page
// store). Opening for writing drops pages of another scope, with a log line.
struct ScopeFolder {
  io::LockFile lock;  // empty when read-only
  std::string pages;  // folder of the page store
  // Files of the page store lie in folders of their own, so nothing else of the folder is touched.
  static Result<ScopeFolder> open(const PageServiceOptions& options);
};

// ok when `capacity` fits into what is free beside what the folder holds already.
Status check_space(const std::string& folder, uint64_t capacity);

}  // namespace ucm::page_service
