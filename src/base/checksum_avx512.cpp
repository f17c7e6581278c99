// SPDX-License-Identifier: Apache-2.0
#define UCM_CHECKSUM_ISA avx512
#include "base/checksum_body.inl.h"
