// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ucm/batch.h"
#include "ucm/device.h"
#include "ucm/status.h"
#include "ucm/task.h"

namespace ucm {

// A part of one token of one layer that lies in one piece on both sides.
struct TokenPart {
  size_t engine_offset = 0;
  size_t page_offset = 0;
  size_t bytes = 0;
};

// Where an engine keeps tokens (layers x slots) and where the pages keep them
// (pages x layers x tokens). Strides in bytes; both memories outlive the copier.
struct PageGeometry {
  std::byte* engine = nullptr;
  size_t engine_layer_stride = 0;
  size_t engine_slot_stride = 0;
  size_t engine_slots = 0;
  std::byte* pages = nullptr;
  size_t page_stride = 0;
  size_t page_layer_stride = 0;
  size_t page_token_stride = 0;
  uint32_t page_count = 0;
  uint32_t page_tokens = 0;
  uint32_t layers = 0;
  std::vector<TokenPart> parts;
};

// Moves whole pages between an engine's KV buffer and CPU pages, a layer at a time, on threads and
// streams of its own. Thread-safe.
class UCM_API PageCopier {
 public:
  static Result<std::unique_ptr<PageCopier>> make(std::shared_ptr<Device> device,
                                                  PageGeometry geometry, unsigned threads);
  virtual ~PageCopier() = default;

  // Token t of pages[i] is engine slot slots[i * page_tokens + t]; a page of -1 is skipped. Row r
  // of the task is layer first_layer + r, copied in this order; load fills the engine, dump the
  // pages. The copies start after `event`.
  virtual TaskPtr copy(Direction direction, std::span<const int64_t> slots,
                       std::span<const int32_t> pages, uint32_t first_layer, uint32_t layers,
                       uintptr_t event) = 0;
};

}  // namespace ucm
