// SPDX-License-Identifier: Apache-2.0
#include "base/worker_group.h"

#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <system_error>

#include "base/affinity.h"
#include "ucm/log.h"

namespace ucm::base {

void name_this_thread(const std::string& name) {
  pthread_setname_np(pthread_self(), name.substr(0, 15).c_str());
}

WorkerGroup::WorkerGroup(std::string name, unsigned threads, std::function<void()> on_start)
    : name_(std::move(name)), on_start_(std::move(on_start)), limit_(std::max(1u, threads)) {
  threads_.reserve(limit_);
  const std::lock_guard lock(mutex_);
  start_thread();
}

// The lock is held: the new thread looks for a job when it is let go. Whether there is a thread
// then.
bool WorkerGroup::start_thread() {
  // Signals belong to the application: ours are blocked in our threads so that Ctrl-C and the
  // engine's handlers run on the engine's own threads.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    threads_.emplace_back([this] { run(); });
    ++idle_;
    has_thread_.store(true, std::memory_order_release);
  } catch (const std::system_error& error) {
    log(LogLevel::warning, "no thread left for %s (%s); raise ulimit -u or pids.max", name_.c_str(),
        error.what());
    if (!threads_.empty()) limit_ = static_cast<unsigned>(threads_.size());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return !threads_.empty();
}

bool WorkerGroup::ready() {
  if (has_thread_.load(std::memory_order_acquire)) return true;
  const std::lock_guard lock(mutex_);
  return !closed_ && (!threads_.empty() || start_thread());
}

bool WorkerGroup::submit(Lane lane, Job job) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_ || (threads_.empty() && !start_thread())) return false;
    lanes_[static_cast<size_t>(lane)].push_back(std::move(job));
    ++queued_;
    if (queued_ > idle_ && threads_.size() < limit_) start_thread();
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
  return queued_;
}

bool WorkerGroup::take(Job* job) {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [this] { return closed_ || queued_ > 0; });
  for (std::deque<Job>& lane : lanes_) {
    if (lane.empty()) continue;
    *job = std::move(lane.front());
    lane.pop_front();
    --queued_;
    --idle_;
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
    const std::lock_guard lock(mutex_);
    ++idle_;
  }
}

}  // namespace ucm::base
