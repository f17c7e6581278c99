// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "stages/posix/posix_crew.h"
#include "ucm/key.h"
#include "ucm/status.h"

namespace ucm::posix {

// Asks the file system about keys on the threads of a crew, before everything else that waits for
// them, so that the caller gets an answer or `timeout` in time even when the storage hangs. While
// an overdue question is still open, new ones fail at once with `unavailable`. Thread-safe.
class InquiryDesk {
 public:
  // Answers one key: 1 or 0, or why it can not be known. Runs on several threads at once.
  using Question = std::function<Result<uint8_t>(const BlockKey& key)>;

  // At most `threads` of the crew's at a time. The crew outlives the desk.
  InquiryDesk(WorkerCrew* crew, unsigned threads, std::chrono::nanoseconds timeout);

  // answers[i] for keys[i]. The first failure fails the whole call.
  Status ask(std::span<const BlockKey> keys, const Question& question, std::span<uint8_t> answers);

 private:
  struct Round;
  static void run(const std::shared_ptr<Round>& round);

  WorkerCrew* const crew_;
  const unsigned threads_;
  const std::chrono::nanoseconds timeout_;
  const std::shared_ptr<std::atomic<uint32_t>> overdue_;
};

}  // namespace ucm::posix
