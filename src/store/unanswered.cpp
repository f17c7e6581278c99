// SPDX-License-Identifier: Apache-2.0
#include "store/unanswered.h"

namespace ucm {

Unanswered::Era Unanswered::asked(Time now) {
  const std::lock_guard lock(mutex_);
  if (open_.fetch_add(1, std::memory_order_acq_rel) == 0) heard(now);
  return era_;
}

void Unanswered::over(Era era) {
  const std::lock_guard lock(mutex_);
  if (era == era_) open_.fetch_sub(1, std::memory_order_acq_rel);
}

bool Unanswered::gives_up(Time now) {
  if (!silent(now)) return false;
  const std::lock_guard lock(mutex_);
  if (!silent(now)) return false;
  ++era_;
  open_.store(0, std::memory_order_release);
  return true;
}

}  // namespace ucm
