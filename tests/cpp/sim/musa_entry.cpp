// SPDX-License-Identifier: Apache-2.0
// The MUSA entry points that platforms/musa calls, over the model.
#include <musa_runtime.h>

#define UCM_RT(name) musa##name
#include "like_entries.h"
