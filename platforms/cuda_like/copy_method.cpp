// SPDX-License-Identifier: Apache-2.0
#include "copy_method.h"

namespace ucm::cuda_like {
namespace {

uintptr_t number(const void* address) { return reinterpret_cast<uintptr_t>(address); }

// Zero when the rows can not be one two-dimensional copy.
size_t usable_pitch(uintptr_t first, uintptr_t second, size_t width) {
  if (second <= first) return 0;
  const size_t pitch = second - first;
  return pitch >= width && pitch <= kMaxPitch ? pitch : 0;
}

}  // namespace

CopyShape shape_of(std::span<const CopyPiece> pieces) {
  CopyShape shape;
  shape.pieces = pieces.size();
  size_t bytes = 0;
  for (const CopyPiece& piece : pieces) bytes += piece.bytes;
  if (shape.pieces != 0) shape.mean_bytes = bytes / shape.pieces;
  if (shape.pieces < 2) return shape;
  const size_t width = pieces[0].bytes;
  shape.pitch.dst = usable_pitch(number(pieces[0].dst), number(pieces[1].dst), width);
  shape.pitch.src = usable_pitch(number(pieces[0].src), number(pieces[1].src), width);
  shape.pitched = shape.pitch.dst != 0 && shape.pitch.src != 0;
  for (size_t i = 0; shape.pitched && i < pieces.size(); ++i) {
    shape.pitched = pieces[i].bytes == width &&
                    number(pieces[i].dst) == number(pieces[0].dst) + i * shape.pitch.dst &&
                    number(pieces[i].src) == number(pieces[0].src) + i * shape.pitch.src;
  }
  return shape;
}

CopyMethod MethodTable::choose(const CopyShape& shape, Direction direction) const {
  const CopyMethod engine = batch && shape.pieces > 1 ? CopyMethod::batch : CopyMethod::each;
  if (shape.pieces <= kFewPieces || shape.mean_bytes >= kCopySurely) return engine;
  if (shape.pitched) return CopyMethod::pitched;
  if (!kernel) return engine;
  const size_t below = kernel_below[static_cast<size_t>(direction)];
  if (shape.mean_bytes < kKernelSurely || shape.mean_bytes < below) return CopyMethod::kernel;
  return engine;
}

}  // namespace ucm::cuda_like
