// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

// One asynchronous accelerator in host memory, behind the entry points of several vendors. Streams
// are threads that run their work in order and late; device memory and pinned host memory are
// known; what a driver would refuse or a program would corrupt is refused and written down.
// It says nothing about speed, bus errors or a driver's limits.
#define UCM_SIM_API __attribute__((visibility("default")))

namespace ucm::sim {

// The numbers of the CUDA runtime; other vendors' entry points translate what differs.
enum Answer : int { kOk = 0, kInvalid = 1, kNoMemory = 2, kInjected = 700 };
enum class Way : uint8_t { load, dump, inside, host };  // h2d, d2h, d2d, h2h
inline constexpr int kDevices = 2;

// Memory the model knows: an allocation of the device or a registration of the host.
struct Known {
  uintptr_t base = 0;
  size_t bytes = 0;
  bool device = false;
  std::atomic<int> uses{0};  // enqueued work that touches it
  std::atomic<bool> alive{true};
};
using KnownPtr = std::shared_ptr<Known>;

// Whether a point of a stream has been reached.
class Point {
 public:
  void reach();
  void wait();
  bool reached();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
};
using PointPtr = std::shared_ptr<Point>;

class Stream {
 public:
  explicit Stream(int device);
  ~Stream();
  void push(std::function<void()> work);
  int device() const { return device_; }

 private:
  void run();
  const int device_;
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<std::function<void()>> work_;
  bool ended_ = false;
  std::thread thread_;
};

struct Event {
  std::mutex mutex;
  PointPtr point;  // null: never recorded
};

class Model {
 public:
  static Model& the();

  // Counts a call and says whether it is the one that must fail.
  int enter(const char* call);
  // Writes a mistake of the caller down and answers kInvalid.
  int misuse(const std::string& what);

  int make_stream(Stream** stream, int device);
  int destroy_stream(Stream* stream);
  int synchronize(Stream* stream);
  int stream_wait(Stream* stream, Event* event);
  int make_event(Event** event);
  int destroy_event(Event* event);
  int record(Event* event, Stream* stream);
  int event_wait(Event* event);

  int copy(void* dst, const void* src, size_t bytes, Way way, Stream* stream);
  int copy_rows(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t width,
                size_t rows, Way way, Stream* stream);
  // Each range is used, not checked for a direction: what a kernel touches.
  int launch(std::function<void()> body, const std::vector<std::pair<const void*, size_t>>& touched,
             Stream* stream);

  int alloc(void** memory, size_t bytes);
  int free(void* memory);
  int alloc_host(void** memory, size_t bytes);
  int free_host(void* memory);
  int register_host(void* memory, size_t bytes);
  int unregister_host(void* memory);
  bool is_pinned(const void* memory);

  // --- for tests ---
  std::vector<std::string> mistakes();
  void forget_mistakes();
  void fail(const std::string& call, int after);
  void delay(std::chrono::microseconds longest) { longest_delay_ = longest.count(); }
  int calls(const std::string& call);
  // Streams, events, allocations and registrations that were not given back.
  std::map<std::string, size_t> open_things();
  int driver_version = 13000;
  bool pageable_is_refused = true;

 private:
  KnownPtr find(const void* memory, size_t bytes);
  int claim(const void* dst, const void* src, size_t bytes, Way way, std::vector<KnownPtr>* uses);
  int side(const void* memory, size_t bytes, bool device, const char* name,
           std::vector<KnownPtr>* uses);
  int add(void* memory, size_t bytes, bool device, bool registered);
  int remove(void* memory, bool device, bool registered, const char* action);
  int enqueue(Stream* stream, std::vector<KnownPtr> uses, std::function<void()> body);
  void dawdle();

  std::mutex mutex_;
  std::map<uintptr_t, KnownPtr> device_memory_;
  std::map<uintptr_t, KnownPtr> allocated_host_;
  std::map<uintptr_t, KnownPtr> registered_host_;
  std::set<Stream*> streams_;
  std::set<Event*> events_;
  std::vector<std::string> mistakes_;
  std::vector<void*> refused_;
  std::map<std::string, int> calls_;
  std::map<std::string, int> failing_;
  std::atomic<int64_t> longest_delay_{0};
};

}  // namespace ucm::sim
