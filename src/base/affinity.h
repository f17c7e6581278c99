// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ucm::base {

// Lets the calling thread run on every processor that some thread of this process may use. A thread
// inherits the processors of its creator, and engines pin the threads that create ours to one
// processor each. Limits set for the whole process (taskset, numactl, cpusets) stay.
void widen_affinity();

}  // namespace ucm::base
