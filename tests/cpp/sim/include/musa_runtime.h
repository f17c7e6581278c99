// SPDX-License-Identifier: Apache-2.0
#pragma once

#define UCM_RT(name) musa##name
#define UCM_RT_HANDLE(name) musa_##name
#include "like_declarations.h"
#undef UCM_RT
#undef UCM_RT_HANDLE
