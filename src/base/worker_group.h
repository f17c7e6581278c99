// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace ucm::base {

// Which jobs go first: everything somebody waits for (loads) before everything else (dumps).
enum class Lane : unsigned char { urgent, normal };

// A fixed number of named threads that run jobs. Idle threads sleep. Jobs must not throw.
// `close` runs what is queued, then joins; submitting after `close` answers false and the job is
// dropped. Thread-safe.
class WorkerGroup {
 public:
  using Job = std::function<void()>;

  // `on_start` runs first on each thread (bind a device, lower a priority).
  WorkerGroup(std::string name, unsigned threads, std::function<void()> on_start = {});
  ~WorkerGroup() { close(); }

  bool submit(Lane lane, Job job);
  void close();
  size_t queued() const;
  unsigned threads() const { return static_cast<unsigned>(threads_.size()); }

 private:
  void run();
  bool take(Job* job);

  const std::string name_;
  const std::function<void()> on_start_;
  mutable std::mutex mutex_;
  std::condition_variable ready_;
  std::array<std::deque<Job>, 2> lanes_;
  bool closed_ = false;
  std::vector<std::thread> threads_;
};

// The name shown by ps and debuggers for the calling thread; at most 15 characters are kept.
void name_this_thread(const std::string& name);

}  // namespace ucm::base
