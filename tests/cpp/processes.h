// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <new>
#include <thread>
#include <utility>

// Child processes of a test, and memory that they share with it.
namespace ucm::test {

// fork(), but the child dies with the thread that made it: a test that is killed leaves nobody
// behind.
inline pid_t fork_child() {
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(98);  // it was killed in between
  }
  return child;
}

// A child that runs `body` and ends with what it answers. Killed with the object.
class Child {
 public:
  explicit Child(const std::function<int()>& body) : pid_(fork_child()) {
    if (pid_ != 0) return;
    try {
      ::_exit(body());
    } catch (...) {
      ::_exit(99);  // not the parent's tests once more
    }
  }
  Child(Child&& other) noexcept : pid_(other.pid_) { other.pid_ = -1; }
  Child& operator=(Child&& other) noexcept {
    kill();
    pid_ = std::exchange(other.pid_, -1);
    return *this;
  }
  ~Child() { kill(); }

  pid_t pid() const { return pid_; }
  // The exit code, or -1 - signal.
  int wait() {
    int state = 0;
    if (pid_ <= 0 || ::waitpid(pid_, &state, 0) != pid_) return -1000;
    pid_ = -1;
    return WIFEXITED(state) ? WEXITSTATUS(state) : -1 - WTERMSIG(state);
  }
  // False when it had ended by itself.
  bool kill() {
    if (pid_ <= 0) return false;
    ::kill(pid_, SIGKILL);
    return wait() == -1 - SIGKILL;
  }

 private:
  pid_t pid_;
};

// A T in memory that children made later share.
template <typename T>
class SharedValue {
 public:
  SharedValue()
      : value_(new (::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                           -1, 0)) T()) {}
  ~SharedValue() { ::munmap(static_cast<void*>(value_), sizeof(T)); }
  SharedValue(const SharedValue&) = delete;
  SharedValue& operator=(const SharedValue&) = delete;
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* const value_;
};

// What the processes of a test tell each other.
class Step {
 public:
  void set(int step) { *now_ = step; }
  void await(int step) const {
    while (*now_ < step) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void add() { ++*now_; }

 private:
  SharedValue<std::atomic<int>> now_;
};

// How many kills a test makes: UCM_KILLS for the long run.
inline int kills(int otherwise) {
  const char* asked = std::getenv("UCM_KILLS");
  return asked ? std::atoi(asked) : otherwise;
}

}  // namespace ucm::test
