// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/checksum.h"
#include "base/digest_copy.h"

// One namespace per instruction set; checksum.cpp picks between them at run time.
#define UCM_DECLARE_CHECKSUM(isa)                                                     \
  namespace ucm::base::isa {                                                          \
  Digest digest_128(const void* data, size_t bytes, uint64_t seed);                   \
  uint64_t digest_64(const void* data, size_t bytes, uint64_t seed);                  \
  void copy_digest_128(std::span<const CopyPiece> pieces, std::span<Digest> digests); \
  }

UCM_DECLARE_CHECKSUM(generic)
#if defined(__x86_64__)
UCM_DECLARE_CHECKSUM(avx2)
UCM_DECLARE_CHECKSUM(avx512)
#endif
