// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "ucm/inspect.h"

namespace ucm::posix {

// StageEntry::inspect of the Posix stage: `path` is one root. not_found when it is none.
Status inspect_posix(const std::string& path, bool verify, const BlockVisitor& visit);

}  // namespace ucm::posix
