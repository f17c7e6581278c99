// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_crew.h"

#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "ucm/log.h"

namespace ucm::posix {

struct WorkerCrew::State {
  State(std::string crew_name, unsigned threads)
      : name(std::move(crew_name)), group(name, threads) {}

  void end_job() {
    const std::lock_guard lock(mutex);
    if (--open_jobs == 0) idle.notify_all();
  }

  const std::string name;
  mutable std::mutex mutex;
  std::condition_variable idle;
  size_t open_jobs = 0;
  bool closed = false;
  base::WorkerGroup group;  // last: its threads use everything above
};

WorkerCrew::WorkerCrew(const std::string& name, unsigned threads)
    : state_(std::make_shared<State>(name, threads)) {}

bool WorkerCrew::submit(base::Lane lane, base::WorkerGroup::Job job) {
  State* state = state_.get();
  {
    const std::lock_guard lock(state->mutex);
    if (state->closed) return false;
    ++state->open_jobs;
  }
  // The state outlives its threads, so a bare pointer is enough.
  const bool taken = state->group.submit(lane, [state, job = std::move(job)]() mutable {
    job();
    // What the job owns goes before the count: an idle crew keeps nothing alive.
    job = nullptr;
    state->end_job();
  });
  if (!taken) state->end_job();
  return taken;
}

bool WorkerCrew::ready() { return state_->group.ready(); }

size_t WorkerCrew::open_jobs() const {
  const std::lock_guard lock(state_->mutex);
  return state_->open_jobs;
}

void WorkerCrew::close(std::chrono::nanoseconds patience) {
  {
    std::unique_lock lock(state_->mutex);
    if (state_->closed) return;
    state_->closed = true;
    state_->idle.wait_for(lock, patience, [this] { return state_->open_jobs == 0; });
    if (state_->open_jobs == 0) {
      lock.unlock();
      state_->group.close();
      return;
    }
  }
  log(LogLevel::warning, "posix: %s: a call into the storage does not return; left behind",
      state_->name.c_str());
  // The only owner from here on is the thread that waits, or nobody when there can be none: then
  // the state stays for the rest of the process rather than being pulled from under its threads.
  auto* owner = new std::shared_ptr<State>(state_);
  try {
    std::thread([owner] {
      base::name_this_thread("ucm-posix-reap");
      (*owner)->group.close();
      delete owner;
    }).detach();
  } catch (const std::system_error&) {
    log(LogLevel::warning, "posix: %s: no thread to wait for it", state_->name.c_str());
  }
}

}  // namespace ucm::posix
