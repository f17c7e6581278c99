// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include "store/stage.h"
#include "ucm/inspect.h"

namespace ucm {

Status inspect_blocks(const std::string& path, bool verify, const BlockVisitor& visit) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return errno_status(errno, "inspect: %s", path.c_str());
  }
  bool stopped = false;
  bool found = false;
  const BlockVisitor watched = [&](const BlockRecord& record) {
    stopped = !visit(record);
    return !stopped;
  };
  for (const StageEntry* entry : stage_table()) {
    if (!entry->inspect || stopped) continue;
    const Status status = entry->inspect(path, verify, watched);
    if (status.ok()) {
      found = true;
    } else if (status.code() != Code::not_found) {
      return status;
    }
  }
  if (found) return {};
  return make_status(Code::not_found,
                     "inspect: %s holds no store of ucm (no FORMAT.json of Disk or Posix)",
                     path.c_str());
}

}  // namespace ucm
