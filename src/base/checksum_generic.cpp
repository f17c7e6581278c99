// SPDX-License-Identifier: Apache-2.0
#define UCM_CHECKSUM_ISA generic
#include "base/checksum_body.inl.h"
