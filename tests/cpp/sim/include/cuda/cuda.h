// SPDX-License-Identifier: Apache-2.0
// The batch copy of CUDA's driver, with the driver's names and numbers.
#pragma once
#include <cstddef>

enum CUresult : int { CUDA_SUCCESS = 0 };
using CUdeviceptr = unsigned long long;
using CUstream = struct CUstream_st*;

enum CUmemcpySrcAccessOrder : int {
  CU_MEMCPY_SRC_ACCESS_ORDER_STREAM = 1,
  CU_MEMCPY_SRC_ACCESS_ORDER_ANY = 3
};
constexpr unsigned CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE = 1;
struct CUmemLocation {
  int type;
  int id;
};
struct CUmemcpyAttributes {
  CUmemcpySrcAccessOrder srcAccessOrder;
  CUmemLocation srcLocHint;
  CUmemLocation dstLocHint;
  unsigned flags;
};
