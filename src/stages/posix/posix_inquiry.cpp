// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_inquiry.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <new>

namespace ucm::posix {
namespace {

// Keys a thread takes at a time: enough to make the hand-over cheap against a stat call.
constexpr size_t kStride = 16;

}  // namespace

// One call of `ask`. It is shared because the caller may leave before the last thread does.
struct InquiryDesk::Round {
  std::vector<BlockKey> keys;
  std::vector<uint8_t> answers;
  Question question;
  std::shared_ptr<std::atomic<uint32_t>> overdue;
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::condition_variable changed;
  size_t running = 0;  // jobs not ended
  bool left = false;   // the caller has given up
  Status failure;
};

InquiryDesk::InquiryDesk(WorkerCrew* crew, unsigned threads, std::chrono::nanoseconds timeout)
    : crew_(crew),
      threads_(threads),
      timeout_(timeout),
      overdue_(std::make_shared<std::atomic<uint32_t>>(0)) {}

void InquiryDesk::run(const std::shared_ptr<Round>& round) {
  Status failure;
  try {
    for (;;) {
      const size_t begin = round->next.fetch_add(kStride);
      if (begin >= round->keys.size() || !failure.ok()) break;
      const size_t end = std::min(begin + kStride, round->keys.size());
      for (size_t i = begin; i < end && failure.ok(); ++i) {
        Result<uint8_t> answer = round->question(round->keys[i]);
        failure = answer.status();
        if (answer.ok()) round->answers[i] = answer.value();
      }
    }
  } catch (const std::bad_alloc&) {
    failure = make_status(Code::out_of_memory, "posix: no memory to look up blocks");
  }
  const std::lock_guard lock(round->mutex);
  if (round->failure.ok()) round->failure = std::move(failure);
  if (--round->running > 0) return;
  if (round->left) round->overdue->fetch_sub(1);
  round->changed.notify_all();
}

Status InquiryDesk::ask(std::span<const BlockKey> keys, const Question& question,
                        std::span<uint8_t> answers) {
  if (keys.empty()) return {};
  if (overdue_->load() > 0) {
    return make_status(Code::unavailable, "posix: the storage has not answered an earlier lookup");
  }
  const auto round = std::make_shared<Round>();
  round->keys.assign(keys.begin(), keys.end());
  round->answers.resize(keys.size());
  round->question = question;
  round->overdue = overdue_;
  const size_t jobs = std::min<size_t>(threads_, (keys.size() + kStride - 1) / kStride);
  round->running = jobs;
  for (size_t i = 0; i < jobs; ++i) {
    if (crew_->submit(base::Lane::question, [round] { run(round); })) continue;
    return make_status(Code::unavailable, "posix: the store is closed");
  }
  std::unique_lock lock(round->mutex);
  if (!round->changed.wait_for(lock, timeout_, [&] { return round->running == 0; })) {
    round->left = true;
    overdue_->fetch_add(1);
    return make_status(Code::timeout, "posix: the storage did not answer a lookup within %g s",
                       std::chrono::duration<double>(timeout_).count());
  }
  UCM_TRY(round->failure);
  std::copy(round->answers.begin(), round->answers.end(), answers.begin());
  return {};
}

}  // namespace ucm::posix
