// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "ucm/key.h"
#include "ucm/status.h"

namespace ucm {

// What a stored block looks like from outside, without opening the store for writing.
struct BlockRecord {
  BlockKey key;
  std::string stage;     // "Disk" or "Posix"
  std::string location;  // file path, or segment file and slot
  uint64_t bytes = 0;    // payload length
  uint64_t layout_id = 0;
  int64_t written_ns = 0;  // Unix time of the dump
  bool damaged = false;    // only when `verify` was asked: checksum or trailer did not match
  std::string damage;      // why, one sentence
};

using BlockVisitor = std::function<bool(const BlockRecord&)>;  // false stops the walk

// Walks every block below `path` (a storage backend of any disk stage, or several of them) in
// storage order. `verify` reads and checks all payloads. not_found when `path` holds no store.
// Never changes a byte; safe beside a running writer (blocks that move meanwhile are left out).
UCM_API Status inspect_blocks(const std::string& path, bool verify, const BlockVisitor& visit);

}  // namespace ucm
