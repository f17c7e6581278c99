// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "io/files.h"
#include "ucm/status.h"
#include "ucm/task.h"

namespace ucm::io {

// How a request ended: `error` is an errno or 0, `bytes` what was moved. Fewer bytes than asked
// for without an error: the file ends there.
struct Transferred {
  size_t bytes = 0;
  int error = 0;
};

// One contiguous transfer. The buffer belongs to the engine until `done` was called. For a direct
// file buffer, offset and bytes are multiples of kAlign.
struct Request {
  SharedFile file;
  bool write = false;
  uint64_t offset = 0;
  void* buffer = nullptr;
  size_t bytes = 0;
  TaskPtr task;  // may be null; a request of a cancelled task that has not started ends ECANCELED
  std::function<void(const Transferred&)> done;
};

struct EngineOptions {
  bool use_io_uring = true;
  unsigned threads = 4;              // of the thread engine
  unsigned depth = 32;               // requests in flight
  size_t inflight_bytes = 64 << 20;  // bytes in flight; one request may always run
  bool register_memory = true;  // files and lasting memory with the ring, where the kernel lets
};

// Moves bytes between memory and files in the background. Reads mostly go before writes; small
// requests that lie behind each other in a file may be moved by one call. `done` runs on a thread
// of the engine, which sleeps when idle. Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string_view name() const = 0;

  // After `close` every request ends with ECANCELED, on the calling thread.
  virtual void submit(std::span<Request> requests) = 0;
  // Requests accepted and not ended yet.
  virtual size_t outstanding() const = 0;
  // Lets what was accepted end and stops the threads. False when the storage did not answer in
  // time: requests that have not started end with ECANCELED, and the stuck thread with its memory
  // is given up, so that the caller can go on. Idempotent.
  virtual bool close(std::chrono::milliseconds timeout) = 0;
};

// io_uring where it is wanted, built in and allowed by the kernel, else threads (one log line).
std::shared_ptr<Engine> make_engine(const EngineOptions& options);
std::shared_ptr<Engine> make_thread_engine(const EngineOptions& options);
// unsupported, with the reason, where io_uring can not be used.
Result<std::shared_ptr<Engine>> make_uring_engine(const EngineOptions& options);

}  // namespace ucm::io
