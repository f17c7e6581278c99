// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace ucm::base {

// Which jobs go first: short questions, then what somebody waits for (loads), then the rest
// (dumps).
enum class Lane : unsigned char { question, urgent, normal };

// Named threads that run jobs: one from the start, more (up to `threads`) when jobs find none idle.
// Idle threads sleep. Jobs must not throw. When the system has no thread left a group does with
// those it has; one without any takes no jobs. `close` runs what is queued, then joins.
// Thread-safe.
class WorkerGroup {
 public:
  using Job = std::function<void()>;

  // `on_start` runs first on each thread (bind a device, lower a priority).
  WorkerGroup(std::string name, unsigned threads, std::function<void()> on_start = {});
  ~WorkerGroup() { close(); }

  // False when the group is closed or has no thread: the job is dropped.
  bool submit(Lane lane, Job job);
  // Whether there is a thread; the first one is tried for again.
  bool ready();
  void close();
  size_t queued() const;
  // How many there may be.
  unsigned threads() const { return limit_; }

 private:
  bool start_thread();
  void run();
  bool take(Job* job);

  const std::string name_;
  const std::function<void()> on_start_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::array<std::deque<Job>, 3> lanes_;
  size_t queued_ = 0;
  size_t idle_ = 0;  // threads that run no job
  unsigned limit_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
  std::atomic<bool> has_thread_{false};  // never false again
};

// The name shown by ps and debuggers for the calling thread; at most 15 characters are kept.
void name_this_thread(const std::string& name);

}  // namespace ucm::base
