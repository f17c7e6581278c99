// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ucm/status.h"

// For tests only: disturbs the file system calls of this process and rehearses power losses.
// docs/faults.md says how the two are used. Without rules and recordings a call costs one branch.
namespace ucm {

// What a rule may disturb; `any` in a rule stands for all of them.
enum class FileOperation : uint8_t {
  any,
  open,
  read,
  write,
  sync,      // fsync, fdatasync, msync, of folders as well
  allocate,  // fallocate, ftruncate
  rename,
  link,
  unlink,  // rmdir as well
  mkdir,
  list,
  stat,  // access, statfs as well
  map,
  lock,
  attribute,  // times and permissions
};

// Operations whose path contains `path` (or fits it as a pattern, when it has a * or a ?), after
// `skip` of them, `count` times, each with `probability`. `error` is the errno to report; `cut`
// makes a transfer short; `delay_ms` sleeps first; `hang` waits for the next `set_faults`. Several
// effects of one rule add up; of several rules that fit the first one counts. In the io_uring
// engine a delay or a hang holds up all transfers of the engine, as a device does that is gone.
struct FaultRule {
  FileOperation operation = FileOperation::any;
  std::string path;
  uint32_t skip = 0;
  uint32_t count = UINT32_MAX;
  int error = 0;
  bool cut = false;
  uint32_t delay_ms = 0;
  bool hang = false;
  double probability = 1;
  uint64_t seed = 0;  // of the probability
};

// Replaces all rules and ends all hangs; an empty list switches the rules off. Thread-safe,
// process-wide.
UCM_API void set_faults(std::vector<FaultRule> rules);
// How many times a rule has taken effect since the last `set_faults`.
UCM_API uint64_t faults_taken();

// What the disk holds when the power is lost (or the process killed) after `point` changes.
struct PowerLoss {
  uint64_t point = 0;
  // Draws what was not synced: which 512-byte sectors of each write, which lengths and which names
  // have reached the disk, in which order.
  uint64_t seed = 0;
  // Only the process ends, the system lives on: every change counts.
  bool process_only = false;
};

// Every change that this process makes below one folder, in order: writes, lengths, names, syncs,
// and what it stores through mapped files. Open stores after the start and close them before the
// end. One recording at a time. Thread-safe.
class UCM_API WriteRecording {
 public:
  // The folder exists; what it holds counts as safe on the disk.
  static Result<std::unique_ptr<WriteRecording>> start(const std::string& folder);
  virtual ~WriteRecording() = default;

  // The number of changes so far, those of mapped memory up to this moment among them.
  virtual uint64_t changes() = 0;
  // Makes the folder `to`, which is absent or empty, what the recorded one is after `loss`.
  virtual Status rebuild(const PowerLoss& loss, const std::string& to) = 0;
};

}  // namespace ucm
