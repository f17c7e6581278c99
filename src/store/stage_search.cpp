// SPDX-License-Identifier: Apache-2.0
#include <strings.h>

#include "store/stage.h"

namespace ucm {

const StageEntry* find_stage(std::string_view name) {
  for (const StageEntry* entry : stage_table()) {
    const std::string_view candidate = entry->name;
    if (candidate.size() == name.size() &&
        strncasecmp(candidate.data(), name.data(), name.size()) == 0) {
      return entry;
    }
  }
  return nullptr;
}

}  // namespace ucm
