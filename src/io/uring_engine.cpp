// SPDX-License-Identifier: Apache-2.0
#include "io/engine.h"

#ifdef UCM_HAVE_URING

#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "base/worker_group.h"
#include "io/flight.h"
#include "io/ring_tables.h"

namespace ucm::io {
namespace {

thread_local const void* ring_of_this_thread = nullptr;

// Newest first: kernels before 6.1 refuse DEFER_TASKRUN, before 5.19 COOP_TASKRUN.
int init_ring(unsigned entries, io_uring* ring) {
  const unsigned flag_sets[] = {
#ifdef IORING_SETUP_DEFER_TASKRUN
      IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN,
#endif
#ifdef IORING_SETUP_COOP_TASKRUN
      IORING_SETUP_COOP_TASKRUN,
#endif
      0};
  int result = -EINVAL;
  for (const unsigned flags : flag_sets) {
    result = io_uring_queue_init(entries, ring, flags);
    if (result != -EINVAL) return result;
  }
  return result;
}

// Rings are mapped by liburing, where race checkers do not look. A ring may get the addresses of
// one that another thread has just given back: this lock makes the order of the two known.
std::mutex& ring_mutex() {
  static std::mutex* const kMutex = new std::mutex;
  return *kMutex;
}

// The ring and the thread that owns it. The thread keeps it alive, so a thread that waits for a
// hanging device can be left behind.
class UringLoop {
 public:
  explicit UringLoop(const EngineOptions& options)
      : depth_(std::max(1u, options.depth)),
        // Some room stays for reads that come while the disk is full of writes.
        write_depth_(std::max(1u, depth_ - depth_ / 8)),
        max_bytes_(options.inflight_bytes),
        wake_fd_(::eventfd(0, EFD_CLOEXEC)),
        register_memory_(options.register_memory) {}
  ~UringLoop() {
    if (wake_fd_ >= 0) ::close(wake_fd_);
  }

  RequestQueues queues;

  void wake() {
    const uint64_t one = 1;
    // Can only fail when the counter is about to overflow, and then the thread is awake.
    if (::write(wake_fd_, &one, sizeof one) < 0) return;
  }

  // The thread's whole life. `ready` gets 0 or the errno of the setup.
  void run(std::promise<int>* ready) {
    int error = EMFILE;
    if (wake_fd_ >= 0) {
      const std::lock_guard lock(ring_mutex());
      error = -init_ring(depth_ + 8, &ring_);
    }
    ready->set_value(error);
    if (error != 0) return;
    tables_.open(&ring_, register_memory_);
    ring_of_this_thread = &queues;
    while (step()) {
    }
    const std::lock_guard lock(ring_mutex());
    io_uring_queue_exit(&ring_);
  }

 private:
  struct Ended {
    RunPtr run;
    Transferred result;
  };

  // Starts what fits, waits for something to happen and reports what is over. False: all is over.
  bool step() {
    if (!start_queued()) return false;
    if (!wake_armed_) arm_wake();
    const int result = io_uring_submit_and_wait(&ring_, ended_.empty() && again_.empty() ? 1 : 0);
    if (result < 0 && result != -EINTR) {
      // Memory pressure inside the kernel: nothing to wait on, so wait for a moment.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    // New transfers are on their way while the completions (checksums, copies) run.
    finish_ended();
    reap();
    return true;
  }

  bool start_queued() {
    std::vector<FlightPtr> starting;
    starting.swap(again_);
    std::vector<RunPtr> cancelled;
    {
      const std::lock_guard lock(queues.mutex);
      if (queues.closed && queues.outstanding == 0) return false;
      take(&queues.reads, &starting, &cancelled);
      take(&queues.writes, &starting, &cancelled);
    }
    for (RunPtr& run : cancelled) ended_.push_back({std::move(run), {0, ECANCELED}});
    for (FlightPtr& flight : starting) start(std::move(flight));
    return true;
  }

  // Moves what may start now out of a queue; requests that lie behind each other go together.
  void take(std::deque<RunPtr>* queue, std::vector<FlightPtr>* starting,
            std::vector<RunPtr>* cancelled) {
    while (!queue->empty() && fits(*queue->front())) {
      RunPtr run = queues.pop(queue);
      if (run->cancelled()) {
        cancelled->push_back(std::move(run));
        continue;
      }
      auto flight = std::make_unique<Flight>(std::move(run));
      while (!queue->empty() && flight->takes(*queue->front()) && !queue->front()->cancelled()) {
        flight->append(queues.pop(queue));
      }
      count_in(*flight);
      starting->push_back(std::move(flight));
    }
  }

  bool fits(const RequestRun& run) const {
    if (run.request.write && writes_ >= write_depth_) return false;
    return inflight_ == 0 ||
           (inflight_ < depth_ && inflight_bytes_ + run.request.bytes <= max_bytes_);
  }

  void count_in(const Flight& flight) {
    ++inflight_;
    inflight_bytes_ += flight.bytes;
    if (flight.write()) ++writes_;
  }

  void count_out(const Flight& flight) {
    --inflight_;
    inflight_bytes_ -= flight.bytes;
    if (flight.write()) --writes_;
  }

  void start(FlightPtr flight) {
    const FaultEffect effect =
        flight->joined() ? FaultEffect() : flight->runs.front()->next_fault();
    if (effect.error != 0) {
      answered(std::move(flight), -effect.error);
      return;
    }
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (!sqe) {
      again_.push_back(std::move(flight));
      return;
    }
    const RequestRun& first = *flight->runs.front();
    if (flight->parts.size() > 1) {
      prepare_parts(sqe, *flight);
    } else {
      const size_t bytes = flight->joined() ? flight->bytes : first.next_bytes(effect.cut);
      prepare_range(sqe, first, static_cast<unsigned>(bytes));
    }
    if (const int file = tables_.file(first.request.file); file >= 0) {
      sqe->fd = file;
      sqe->flags |= IOSQE_FIXED_FILE;
    }
    io_uring_sqe_set_data(sqe, flight.release());
  }

  static void prepare_parts(io_uring_sqe* sqe, const Flight& flight) {
    const Request& request = flight.runs.front()->request;
    const auto count = static_cast<unsigned>(flight.parts.size());
    if (request.write) {
      io_uring_prep_writev(sqe, request.file->fd(), flight.parts.data(), count, request.offset);
    } else {
      io_uring_prep_readv(sqe, request.file->fd(), flight.parts.data(), count, request.offset);
    }
  }

  void prepare_range(io_uring_sqe* sqe, const RequestRun& run, unsigned bytes) {
    const Request& request = run.request;
    const int fd = request.file->fd();
    const int buffer = tables_.buffer(run.next_buffer(), bytes);
    if (buffer >= 0 && request.write) {
      io_uring_prep_write_fixed(sqe, fd, run.next_buffer(), bytes, run.next_offset(), buffer);
    } else if (buffer >= 0) {
      io_uring_prep_read_fixed(sqe, fd, run.next_buffer(), bytes, run.next_offset(), buffer);
    } else if (request.write) {
      io_uring_prep_write(sqe, fd, run.next_buffer(), bytes, run.next_offset());
    } else {
      io_uring_prep_read(sqe, fd, run.next_buffer(), bytes, run.next_offset());
    }
  }

  void answered(FlightPtr flight, int64_t answer) {
    if (flight->joined()) {
      answered_together(std::move(flight), answer);
      return;
    }
    Transferred result;
    RunPtr& run = flight->runs.front();
    if (run->advance(answer, &result)) {
      count_out(*flight);
      ended_.push_back({std::move(run), result});
    } else {
      again_.push_back(std::move(flight));
    }
  }

  void answered_together(FlightPtr flight, int64_t answer) {
    count_out(*flight);
    const bool all = answer == static_cast<int64_t>(flight->bytes);
    for (RunPtr& run : flight->runs) {
      if (all) {
        const size_t bytes = run->request.bytes;
        ended_.push_back({std::move(run), {bytes, 0}});
      } else {
        again_.push_back(std::make_unique<Flight>(std::move(run)));
        count_in(*again_.back());
      }
    }
  }

  void arm_wake() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (!sqe) return;
    io_uring_prep_read(sqe, wake_fd_, &wake_count_, sizeof wake_count_, 0);
    io_uring_sqe_set_data(sqe, nullptr);
    wake_armed_ = true;
  }

  void reap() {
    io_uring_cqe* cqe = nullptr;
    unsigned head = 0;
    unsigned count = 0;
    io_uring_for_each_cqe(&ring_, head, cqe) {
      ++count;
      auto* flight = static_cast<Flight*>(io_uring_cqe_get_data(cqe));
      if (flight) {
        answered(FlightPtr(flight), cqe->res);
      } else {
        wake_armed_ = false;
      }
    }
    io_uring_cq_advance(&ring_, count);
  }

  void finish_ended() {
    std::vector<Ended> ended;
    ended.swap(ended_);
    for (Ended& one : ended) {
      one.run->finish(one.result);
      one.run.reset();
    }
    if (!ended.empty()) queues.ended(ended.size());
  }

  const unsigned depth_;
  const unsigned write_depth_;
  const size_t max_bytes_;
  const int wake_fd_;
  const bool register_memory_;
  io_uring ring_ = {};
  RingTables tables_;
  uint64_t wake_count_ = 0;
  bool wake_armed_ = false;
  unsigned inflight_ = 0;
  unsigned writes_ = 0;
  size_t inflight_bytes_ = 0;
  std::vector<FlightPtr> again_;
  std::vector<Ended> ended_;
};

class UringEngine final : public Engine {
 public:
  explicit UringEngine(const EngineOptions& options)
      : loop_(std::make_shared<UringLoop>(options)),
        thread_(new base::WorkerGroup("ucm-uring", 1)) {}

  ~UringEngine() override {
    close(std::chrono::seconds(10));
    if (!given_up_) delete thread_;
  }

  bool ready() { return thread_->ready(); }
  int start() {
    auto ready = std::make_shared<std::promise<int>>();
    std::future<int> error = ready->get_future();
    thread_->submit(base::Lane::normal, [loop = loop_, ready] { loop->run(ready.get()); });
    return error.get();
  }

  std::string_view name() const override { return "io_uring"; }

  void submit(std::span<Request> requests) override {
    size_t taken = 0;
    {
      const std::lock_guard lock(loop_->queues.mutex);
      while (taken < requests.size() && loop_->queues.push(std::move(requests[taken]))) ++taken;
    }
    if (taken > 0) loop_->wake();
    for (; taken < requests.size(); ++taken) {
      if (requests[taken].done) requests[taken].done({0, ECANCELED});
    }
  }

  size_t outstanding() const override {
    const std::lock_guard lock(loop_->queues.mutex);
    return loop_->queues.outstanding;
  }

  bool close(std::chrono::milliseconds timeout) override {
    {
      const std::lock_guard lock(loop_->queues.mutex);
      if (loop_->queues.closed) return !given_up_;
      loop_->queues.closed = true;
    }
    loop_->wake();
    given_up_ = ring_of_this_thread == &loop_->queues || !loop_->queues.drain(timeout);
    if (given_up_) {
      loop_->queues.cancel_queued();
    } else {
      // The drain may have been noticed by us before the thread looked at it.
      loop_->wake();
      thread_->close();
    }
    return !given_up_;
  }

 private:
  const std::shared_ptr<UringLoop> loop_;
  base::WorkerGroup* const thread_;
  std::atomic<bool> given_up_{false};
};

std::string setup_failure(int error) {
  switch (error) {
    case EPERM:
      return "the kernel forbids io_uring (sysctl kernel.io_uring_disabled, seccomp or a container "
             "policy)";
    case ENOSYS:
      return "this kernel has no io_uring";
    case ENOMEM:
      return "not enough locked memory for a ring (raise ulimit -l)";
    default:
      return errno_status(error, "io_uring_queue_init").message();
  }
}

}  // namespace

Result<std::shared_ptr<Engine>> make_uring_engine(const EngineOptions& options) {
  auto engine = std::make_shared<UringEngine>(options);
  if (!engine->ready()) return make_status(Code::unavailable, "no thread for io_uring");
  if (const int error = engine->start(); error != 0) {
    return make_status(Code::unsupported, "%s", setup_failure(error).c_str());
  }
  return std::shared_ptr<Engine>(std::move(engine));
}

}  // namespace ucm::io

#else

namespace ucm::io {

Result<std::shared_ptr<Engine>> make_uring_engine(const EngineOptions&) {
  return make_status(Code::unsupported, "this build has no io_uring (liburing was not found)");
}

}  // namespace ucm::io

#endif
