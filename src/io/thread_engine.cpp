// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <atomic>

#include "base/worker_group.h"
#include "io/engine.h"
#include "io/request_run.h"

namespace ucm::io {
namespace {

// Which engine the calling thread works for, to notice a close from inside a completion.
thread_local const void* queues_of_this_thread = nullptr;

Transferred run_request(RequestRun* run) {
  if (run->cancelled()) return {0, ECANCELED};
  Transferred result;
  int64_t answer = 0;
  do {
    const FaultEffect effect = run->next_fault();
    if (effect.error != 0) {
      answer = -effect.error;
      continue;
    }
    const Request& request = run->request;
    const auto offset = static_cast<off_t>(run->next_offset());
    const size_t bytes = run->next_bytes(effect.cut);
    answer = request.write ? ::pwrite(request.file->fd(), run->next_buffer(), bytes, offset)
                           : ::pread(request.file->fd(), run->next_buffer(), bytes, offset);
    if (answer < 0) answer = -errno;
  } while (!run->advance(answer, &result));
  return result;
}

// Of so many requests one is a write where one waits: a flood of reads does not hold it up.
constexpr uint64_t kTurnOfWrites = 8;

// One queued request, mostly reads first. The queues may be empty: a close has cancelled them.
void run_next(RequestQueues* queues) {
  queues_of_this_thread = queues;
  RunPtr run;
  {
    const std::lock_guard lock(queues->mutex);
    const bool turn_of_writes = ++queues->turns % kTurnOfWrites == 0 || queues->reads.empty();
    if (turn_of_writes && !queues->writes.empty()) {
      run = queues->pop(&queues->writes);
    } else if (!queues->reads.empty()) {
      run = queues->pop(&queues->reads);
    }
  }
  if (!run) return;
  run->finish(run_request(run.get()));
  run.reset();
  queues->ended();
}

class ThreadEngine final : public Engine {
 public:
  explicit ThreadEngine(const EngineOptions& options)
      : queues_(std::make_shared<RequestQueues>()),
        threads_(new base::WorkerGroup("ucm-io", thread_count(options))) {}

  ~ThreadEngine() override {
    close(std::chrono::seconds(10));
    if (!given_up_) delete threads_;
  }

  std::string_view name() const override { return "threads"; }

  void submit(std::span<Request> requests) override {
    const bool ready = threads_->ready();
    for (Request& request : requests) {
      if (!ready) {
        if (request.done) request.done({0, EAGAIN});
        continue;
      }
      bool taken;
      {
        const std::lock_guard lock(queues_->mutex);
        taken = queues_->push(std::move(request));
      }
      if (taken) {
        // A group that closes at this moment has drained the queues or cancels them.
        static_cast<void>(
            threads_->submit(base::Lane::normal, [queues = queues_] { run_next(queues.get()); }));
      } else if (request.done) {
        request.done({0, ECANCELED});
      }
    }
  }

  size_t outstanding() const override {
    const std::lock_guard lock(queues_->mutex);
    return queues_->outstanding;
  }

  bool close(std::chrono::milliseconds timeout) override {
    {
      const std::lock_guard lock(queues_->mutex);
      if (queues_->closed) return !given_up_;
      queues_->closed = true;
    }
    // A thread can not wait for itself, and one inside a hanging call can not be joined: then the
    // group is left behind.
    given_up_ = queues_of_this_thread == queues_.get() || !queues_->drain(timeout);
    if (given_up_) {
      queues_->cancel_queued();
    } else {
      threads_->close();
    }
    return !given_up_;
  }

 private:
  static unsigned thread_count(const EngineOptions& options) {
    return std::max(1u, std::min(options.threads, options.depth));
  }

  const std::shared_ptr<RequestQueues> queues_;
  base::WorkerGroup* const threads_;
  std::atomic<bool> given_up_{false};
};

}  // namespace

std::shared_ptr<Engine> make_thread_engine(const EngineOptions& options) {
  return std::make_shared<ThreadEngine>(options);
}

}  // namespace ucm::io
