// SPDX-License-Identifier: Apache-2.0
// What piece_kernel.cu does, lane after lane on the host.
#include <cuda_runtime_api.h>

#include <utility>
#include <vector>

#include "piece_walk.h"
#include "sim_model.h"

int ucm_launch_piece_kernel(const ucm::cuda_like::DevicePiece* pieces, size_t count,
                            cudaStream_t stream) {
  using ucm::sim::Model;
  if (int injected = Model::the().enter("copy_pieces")) return injected;
  std::vector<std::pair<const void*, size_t>> touched = {{pieces, count * sizeof *pieces}};
  for (size_t i = 0; i < count; ++i) {
    touched.emplace_back(pieces[i].dst, pieces[i].bytes);
    touched.emplace_back(pieces[i].src, pieces[i].bytes);
  }
  const auto run = [pieces, count] {
    constexpr unsigned kBlocks = 3;
    constexpr unsigned kLanes = 32;
    for (unsigned block = 0; block < kBlocks; ++block) {
      for (unsigned lane = 0; lane < kLanes; ++lane) {
        ucm::cuda_like::copy_block_lane(pieces, count, block, kBlocks, lane, kLanes);
      }
    }
  };
  return Model::the().launch(run, touched, reinterpret_cast<ucm::sim::Stream*>(stream));
}
