// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "ucm/device.h"

// Chooses how a list of copies is carried out.
namespace ucm::cuda_like {

enum class CopyMethod { each, batch, pitched, kernel };

// Equal pieces at equal distances on both sides, as one two-dimensional copy.
struct Pitch {
  size_t dst = 0;
  size_t src = 0;
};

struct CopyShape {
  size_t pieces = 0;
  size_t mean_bytes = 0;
  bool pitched = false;
  Pitch pitch;
};

// As figures name them.
inline constexpr std::array<const char*, 4> kMethodNames = {"each", "batch", "pitched", "kernel"};
inline constexpr const char* kChosenMethod = "chosen";

CopyShape shape_of(std::span<const CopyPiece> pieces);

// What this device can do, and below which mean piece size the kernel won when it was measured.
struct MethodTable {
  bool batch = false;
  bool kernel = false;
  std::array<size_t, 2> kernel_below = {0, 0};  // by Direction

  CopyMethod choose(const CopyShape& shape, Direction direction) const;
};

inline constexpr size_t kKernelSurely = size_t{64} << 10;  // smaller pieces: kernel
inline constexpr size_t kCopySurely = size_t{256} << 10;   // this large: copy engine
inline constexpr size_t kFewPieces = 4;
inline constexpr size_t kMaxPitch = size_t{1} << 30;

}  // namespace ucm::cuda_like
