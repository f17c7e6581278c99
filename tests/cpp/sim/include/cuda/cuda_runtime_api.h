// SPDX-License-Identifier: Apache-2.0
#pragma once

#define UCM_RT(name) cuda##name
#define UCM_RT_HANDLE(name) CU##name
#include "../like_declarations.h"
#undef UCM_RT
#undef UCM_RT_HANDLE

#define CUDART_VERSION 13000
#define CUDARTAPI

constexpr cudaError_t cudaErrorInvalidValue = cudaError_t(1);
constexpr cudaError_t cudaErrorNotSupported = cudaError_t(801);
constexpr unsigned cudaHostAllocPortable = 1;
constexpr unsigned cudaHostAllocMapped = 2;
constexpr unsigned long long cudaEnableDefault = 0;
enum cudaDriverEntryPointQueryResult {
  cudaDriverEntryPointSuccess = 0,
  cudaDriverEntryPointSymbolNotFound = 1
};

extern "C" {
cudaError_t cudaDriverGetVersion(int*);
cudaError_t cudaRuntimeGetVersion(int*);
cudaError_t cudaHostAlloc(void**, size_t, unsigned);
cudaError_t cudaFreeHost(void*);
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void**, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult*);
}
