// SPDX-License-Identifier: Apache-2.0
// Gathers and scatters pieces that are too small for the copy engine.
#include <cuda_runtime.h>

#include "piece_walk.h"

namespace {

// Few blocks: the copy is bound by the bus, and every block is taken from the engine's kernels.
constexpr unsigned kMaxBlocks = 16;
constexpr unsigned kLanes = 512;

__global__ void __launch_bounds__(kLanes)
    copy_pieces(const ucm::cuda_like::DevicePiece* pieces, size_t count) {
  ucm::cuda_like::copy_block_lane(pieces, count, blockIdx.x, gridDim.x, threadIdx.x, blockDim.x);
}

}  // namespace

int ucm_launch_piece_kernel(const ucm::cuda_like::DevicePiece* pieces, size_t count,
                            cudaStream_t stream) {
  const unsigned blocks = count < kMaxBlocks ? static_cast<unsigned>(count) : kMaxBlocks;
  void* arguments[] = {&pieces, &count};
  // Answers for this launch alone, unlike the last error of the thread.
  return cudaLaunchKernel(reinterpret_cast<const void*>(&copy_pieces), dim3(blocks), dim3(kLanes),
                          arguments, 0, stream);
}
