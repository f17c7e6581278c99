// SPDX-License-Identifier: Apache-2.0
#include "base/worker_group.h"

#include <pthread.h>

#include <csignal>

#include "base/affinity.h"

namespace ucm::base {

void name_this_thread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

WorkerGroup::WorkerGroup(std::string name, unsigned threads, std::function<void()> on_start)
    : name_(std::move(name)), on_start_(std::move(on_start)) {
  // Signals belong to the application: ours are blocked in our threads so that Ctrl-C and the
  // engine's handlers run on the engine's own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  threads_.reserve(threads);
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool WorkerGroup::submit(Lane lane, Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    lanes_[static_cast<size_t>(lane)].push_back(std::move(job));
  }
  ready_.notify_one();
  return true;
}

void WorkerGroup::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  ready_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

size_t WorkerGroup::queued() const {
  const std::lock_guard lock(mutex_);
  return lanes_[0].size() + lanes_[1].size();
}

bool WorkerGroup::take(Job* job) {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [this] { return closed_ || !lanes_[0].empty() || !lanes_[1].empty(); });
  for (std::deque<Job>& lane : lanes_) {
    if (lane.empty()) continue;
    *job = std::move(lane.front());
    lane.pop_front();
    return true;
  }
  return false;
}

void WorkerGroup::run() {
  name_this_thread(name_);
  widen_affinity();
  if (on_start_) on_start_();
  Job job;
  while (take(&job)) {
    job();
    job = nullptr;
  }
}

}  // namespace ucm::base
