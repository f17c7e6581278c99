// SPDX-License-Identifier: Apache-2.0
// The MACA entry points that platforms/maca calls, over the model.
#include <mcr/mc_runtime_api.h>

#define UCM_RT(name) mc##name
#include "like_entries.h"
