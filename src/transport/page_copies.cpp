// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "transport/copier.h"
#include "ucm/page_copy.h"

namespace ucm {
namespace transport {
namespace {

Status check(const PageGeometry& g) {
  if (!g.engine || !g.pages || g.layers == 0 || g.page_tokens == 0 || g.parts.empty()) {
    return make_status(Code::invalid_argument, "page copies: a geometry without memory or size");
  }
  for (const TokenPart& part : g.parts) {
    const bool fits = part.bytes != 0 && part.engine_offset + part.bytes <= g.engine_slot_stride &&
                      part.page_offset + part.bytes <= g.page_token_stride;
    if (!fits) {
      return make_status(Code::invalid_argument,
                         "page copies: a part of %zu bytes does not fit in its token", part.bytes);
    }
  }
  const bool nested = g.page_token_stride * g.page_tokens <= g.page_layer_stride &&
                      g.page_layer_stride * g.layers <= g.page_stride &&
                      g.engine_slot_stride * g.engine_slots <= g.engine_layer_stride;
  if (nested) return {};
  return make_status(Code::invalid_argument, "page copies: tokens, layers and pages overlap");
}

class LayerwiseCopier final : public PageCopier {
 public:
  LayerwiseCopier(std::shared_ptr<Device> device, PageGeometry geometry, unsigned threads)
      : geometry_(std::move(geometry)), copier_(std::move(device), threads) {}
  Status check() { return copier_.check(); }

  TaskPtr copy(Direction direction, std::span<const int64_t> slots, std::span<const int32_t> pages,
               uint32_t first_layer, uint32_t layers, uintptr_t event) override {
    if (Status status = check_call(slots, pages, first_layer, layers); !status.ok()) {
      return Task::finished(std::clamp(layers, 1u, geometry_.layers), std::move(status));
    }
    TaskPtr task = Task::make(layers);
    for (uint32_t row = 0; row < layers; ++row) {
      CopyJob job;
      job.pieces = plan(direction, slots, pages, first_layer + row);
      job.event = event;
      job.skip = [task] { return task->cancelled(); };
      job.started = [task, row](Task::Fence fence) {
        task->start_rows({&row, 1}, std::move(fence));
      };
      job.done = [task, row](const Status& status) { task->finish_row(row, status); };
      if (!copier_.submit(direction, std::move(job)))
        task->finish_row(row, make_status(Code::cancelled, "page copies: closed"));
    }
    return task;
  }

 private:
  Status check_call(std::span<const int64_t> slots, std::span<const int32_t> pages,
                    uint32_t first_layer, uint32_t layers) const {
    const PageGeometry& g = geometry_;
    if (slots.size() != pages.size() * g.page_tokens) {
      return make_status(Code::invalid_argument, "page copies: %zu slots for %zu pages of %u",
                         slots.size(), pages.size(), g.page_tokens);
    }
    if (layers == 0 || first_layer >= g.layers || layers > g.layers - first_layer) {
      return make_status(Code::invalid_argument, "page copies: %u layers from %u on, there are %u",
                         layers, first_layer, g.layers);
    }
    for (size_t i = 0; i < pages.size(); ++i) {
      if (pages[i] == -1) continue;
      const auto tokens = slots.subspan(i * g.page_tokens, g.page_tokens);
      const bool inside = static_cast<uint32_t>(pages[i]) < g.page_count &&
                          std::ranges::all_of(
                              tokens,
                              [&](int64_t slot) {
                                return slot >= 0 && static_cast<uint64_t>(slot) < g.engine_slots;
                              });
      if (inside) continue;
      return make_status(Code::invalid_argument, "page copies: page %d or a slot of it is outside",
                         pages[i]);
    }
    return {};
  }

  std::vector<CopyPiece> plan(Direction direction, std::span<const int64_t> slots,
                              std::span<const int32_t> pages, uint32_t layer) const {
    const PageGeometry& g = geometry_;
    std::vector<CopyPiece> pieces;
    pieces.reserve(slots.size() * g.parts.size());
    for (size_t i = 0; i < pages.size(); ++i) {
      if (pages[i] == -1) continue;
      std::byte* page =
          g.pages + static_cast<size_t>(pages[i]) * g.page_stride + layer * g.page_layer_stride;
      for (const TokenPart& part : g.parts) {
        for (uint32_t t = 0; t < g.page_tokens; ++t) {
          std::byte* engine =
              g.engine + layer * g.engine_layer_stride +
              static_cast<size_t>(slots[i * g.page_tokens + t]) * g.engine_slot_stride +
              part.engine_offset;
          std::byte* host = page + t * g.page_token_stride + part.page_offset;
          if (direction == Direction::load) {
            pieces.push_back({engine, host, part.bytes});
          } else {
            pieces.push_back({host, engine, part.bytes});
          }
        }
      }
    }
    return pieces;
  }

  const PageGeometry geometry_;
  Copier copier_;
};

}  // namespace
}  // namespace transport

Result<std::unique_ptr<PageCopier>> PageCopier::make(std::shared_ptr<Device> device,
                                                     PageGeometry geometry, unsigned threads) {
  UCM_TRY(transport::check(geometry));
  if (!device || threads == 0) {
    return make_status(Code::invalid_argument, "page copies: a device and a thread are needed");
  }
  auto copier =
      std::make_unique<transport::LayerwiseCopier>(std::move(device), std::move(geometry), threads);
  UCM_TRY(copier->check());
  return std::unique_ptr<PageCopier>(std::move(copier));
}

}  // namespace ucm
