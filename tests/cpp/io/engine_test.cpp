// SPDX-License-Identifier: Apache-2.0
#include "io/engine.h"

#include <fcntl.h>
#include <sys/resource.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "io/aligned_buffer.h"
#include "io/direct.h"
#include "io_fixture.h"

namespace ucm::io {
namespace {

constexpr size_t kBlock = 64 << 10;

// The same promises from both engines, past the page cache and through it.
struct EngineCase {
  bool uring;
  bool direct;
};

class EngineTest : public test::IoTest, public ::testing::WithParamInterface<EngineCase> {
 protected:
  std::shared_ptr<Engine> make(EngineOptions options = {}) {
    if (!GetParam().uring) return make_thread_engine(options);
    auto engine = make_uring_engine(options);
    // Where the kernel refuses io_uring, what replaces it is what has to work.
    return engine.ok() ? std::move(engine).value() : make_engine(options);
  }
  SharedFile open(const std::string& name = "file") {
    auto file = open_direct(path(name), O_RDWR | O_CREAT, 0600, GetParam().direct);
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    return std::make_shared<const File>(std::move(file).value());
  }
  static AlignedBuffer filled(uint8_t value, size_t bytes = kBlock) {
    AlignedBuffer buffer = AlignedBuffer::make(bytes);
    std::memset(buffer.data(), value, buffer.bytes());
    return buffer;
  }

  // Submits one request and waits for its end.
  static Transferred run(Engine& engine, Request request) {
    std::mutex mutex;
    std::condition_variable ended;
    bool over = false;
    Transferred result;
    request.done = [&](const Transferred& transferred) {
      const std::lock_guard lock(mutex);
      result = transferred;
      over = true;
      ended.notify_all();
    };
    engine.submit({&request, 1});
    std::unique_lock lock(mutex);
    EXPECT_TRUE(ended.wait_for(lock, std::chrono::seconds(30), [&] { return over; }));
    return result;
  }
  static Request request(const SharedFile& file, bool write, uint64_t offset,
                         const AlignedBuffer& buffer) {
    Request request;
    request.file = file;
    request.write = write;
    request.offset = offset;
    request.buffer = buffer.data();
    request.bytes = buffer.bytes();
    return request;
  }
  static bool holds(const AlignedBuffer& buffer, uint8_t value, size_t bytes) {
    return std::all_of(buffer.data(), buffer.data() + bytes,
                       [value](std::byte b) { return b == std::byte{value}; });
  }
};

INSTANTIATE_TEST_SUITE_P(Both, EngineTest,
                         ::testing::Values(EngineCase{false, false}, EngineCase{false, true},
                                           EngineCase{true, false}, EngineCase{true, true}),
                         [](const auto& info) {
                           return std::string(info.param.uring ? "uring" : "threads") +
                                  (info.param.direct ? "_direct" : "_buffered");
                         });

TEST_P(EngineTest, reads_back_what_it_wrote) {
  const auto engine = make();
  const SharedFile file = open();
  for (uint8_t i = 0; i < 8; ++i) {
    const auto wrote = run(*engine, request(file, true, i * kBlock, filled(i)));
    EXPECT_EQ(wrote.error, 0);
    EXPECT_EQ(wrote.bytes, kBlock);
  }
  for (uint8_t i = 0; i < 8; ++i) {
    const AlignedBuffer buffer = filled(0xFF);
    EXPECT_EQ(run(*engine, request(file, false, i * kBlock, buffer)).bytes, kBlock);
    EXPECT_TRUE(holds(buffer, i, kBlock));
  }
}

TEST_P(EngineTest, a_read_over_the_end_answers_what_is_there) {
  const auto engine = make();
  const SharedFile file = open();
  run(*engine, request(file, true, 0, filled(7, 8192)));
  const AlignedBuffer buffer = filled(0xFF, 16384);
  const auto read = run(*engine, request(file, false, 0, buffer));
  EXPECT_EQ(read.error, 0);
  EXPECT_EQ(read.bytes, 8192u);
  EXPECT_TRUE(holds(buffer, 7, 8192));
  EXPECT_EQ(run(*engine, request(file, false, 1 << 20, buffer)).bytes, 0u);
  ASSERT_EQ(::truncate(path("file").c_str(), 5000), 0);
  EXPECT_EQ(run(*engine, request(file, false, 0, buffer)).bytes, 5000u);
}

TEST_P(EngineTest, short_and_interrupted_calls_are_completed) {
  const auto engine = make();
  const SharedFile file = open();
  set_faults({{.path = path("file"), .count = 3, .error = EINTR},
              {.path = path("file"), .count = 2, .error = EAGAIN},
              {.path = path("file"), .cut = true}});
  EXPECT_EQ(run(*engine, request(file, true, 0, filled(9))).bytes, kBlock);
  const AlignedBuffer buffer = filled(0);
  EXPECT_EQ(run(*engine, request(file, false, 0, buffer)).bytes, kBlock);
  EXPECT_TRUE(holds(buffer, 9, kBlock));
  EXPECT_GT(faults_taken(), 10u);
}

TEST_P(EngineTest, errors_are_reported_as_they_came) {
  const auto engine = make();
  const SharedFile file = open();
  for (const int error : {EIO, ENOSPC, EDQUOT}) {
    set_faults({{.path = path("file"), .count = 1, .error = error}});
    EXPECT_EQ(run(*engine, request(file, true, 0, filled(1))).error, error);
  }
  auto read_only = File::open(path("file"), O_RDONLY);
  const auto closed = std::make_shared<const File>(std::move(read_only).value());
  EXPECT_EQ(run(*engine, request(closed, true, 0, filled(1))).error, EBADF);
}

TEST_P(EngineTest, many_requests_from_many_threads_all_end_right) {
  EngineOptions options;
  options.depth = 4;
  options.inflight_bytes = 3 * kBlock;
  const auto engine = make(options);
  const SharedFile file = open();
  std::atomic<int> bad{0};
  std::vector<std::thread> threads;
  for (uint8_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        if (run(*engine, request(file, true, t * kBlock, filled(t))).bytes != kBlock) ++bad;
        const AlignedBuffer buffer = filled(0xFF);
        if (run(*engine, request(file, false, t * kBlock, buffer)).bytes != kBlock) ++bad;
        if (!holds(buffer, t, kBlock)) ++bad;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(bad, 0);
  // The engine counts a request as ended after its callback has returned.
  for (int i = 0; i < 10000 && engine->outstanding() != 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(engine->outstanding(), 0u);
}

TEST_P(EngineTest, reads_overtake_writes_that_have_not_started) {
  EngineOptions options;
  options.depth = 1;
  options.threads = 1;
  const auto engine = make(options);
  const SharedFile file = open();
  run(*engine, request(file, true, 0, filled(1)));
  // The first write holds the engine while the others queue up.
  set_faults({{.operation = Operation::write, .path = path("file"), .count = 1, .delay_ms = 300}});
  std::mutex mutex;
  std::vector<char> order;
  std::vector<AlignedBuffer> buffers;
  std::vector<Request> requests;
  for (const char kind : {'w', 'w', 'w', 'r'}) {
    buffers.push_back(filled(2));
    Request one = request(file, kind == 'w', 0, buffers.back());
    one.done = [&, kind](const Transferred&) {
      const std::lock_guard lock(mutex);
      order.push_back(kind);
    };
    requests.push_back(std::move(one));
    if (requests.size() == 1) {
      engine->submit(requests);
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  engine->submit(std::span(requests).subspan(1));
  ASSERT_TRUE(engine->close(std::chrono::seconds(20)));
  EXPECT_EQ(std::string(order.begin(), order.end()), "wrww");
}

TEST_P(EngineTest, requests_of_a_cancelled_task_do_not_start) {
  const auto engine = make();
  Request one = request(open(), true, 0, filled(1));
  one.task = Task::make(1);
  one.task->cancel();
  EXPECT_EQ(run(*engine, std::move(one)).error, ECANCELED);
  EXPECT_EQ(std::filesystem::file_size(path("file")), 0u);
}

TEST_P(EngineTest, close_lets_requests_end_and_refuses_later_ones) {
  const auto engine = make();
  const SharedFile file = open();
  std::atomic<int> ended{0};
  std::vector<AlignedBuffer> buffers;
  std::vector<Request> requests;
  for (uint8_t i = 0; i < 50; ++i) {
    buffers.push_back(filled(i));
    requests.push_back(request(file, true, i * kBlock, buffers.back()));
    requests.back().done = [&](const Transferred& result) { ended += result.bytes == kBlock; };
  }
  engine->submit(requests);
  EXPECT_TRUE(engine->close(std::chrono::seconds(20)));
  EXPECT_EQ(ended, 50);
  EXPECT_TRUE(engine->close(std::chrono::seconds(20)));
  EXPECT_EQ(run(*engine, request(file, false, 0, buffers[0])).error, ECANCELED);
}

TEST_P(EngineTest, close_gives_up_on_storage_that_hangs) {
  EngineOptions options;
  options.threads = 1;
  options.depth = 1;
  auto engine = make(options);
  const SharedFile file = open();
  // The engine's memory outlives this test's stack: what the late completion uses is shared.
  struct Late {
    AlignedBuffer buffer = filled(3);
    std::atomic<int> stuck_ended{0};
    std::atomic<int> queued_cancelled{0};
  };
  const auto late = std::make_shared<Late>();
  set_faults({{.operation = Operation::write, .path = path("file"), .delay_ms = 1000}});
  std::vector<Request> requests;
  requests.push_back(request(file, true, 0, late->buffer));
  requests.back().done = [late](const Transferred&) { ++late->stuck_ended; };
  engine->submit(requests);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  requests[0] = request(file, true, kBlock, late->buffer);
  requests[0].done = [late](const Transferred& result) {
    late->queued_cancelled += result.error == ECANCELED;
  };
  engine->submit(requests);
  EXPECT_FALSE(engine->close(std::chrono::milliseconds(50)));
  EXPECT_EQ(late->queued_cancelled, 1) << "what has not started is cancelled";
  EXPECT_EQ(late->stuck_ended, 0) << "what is in the storage is not reported as over";
  engine.reset();
  for (int i = 0; i < 500 && late->stuck_ended == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_EQ(late->stuck_ended, 1);
}

TEST_P(EngineTest, an_idle_engine_uses_no_processor_time) {
  const auto engine = make();
  run(*engine, request(open(), true, 0, filled(1)));
  const auto used_ms = [] {
    rusage usage;
    ::getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
  };
  const long before = used_ms();
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  // A spinning thread would use all of the half second.
  EXPECT_LT(used_ms() - before, 100);
}

TEST(EngineChoice, names_the_engine_that_was_taken) {
  EngineOptions options;
  options.use_io_uring = false;
  EXPECT_EQ(make_engine(options)->name(), "threads");
  options.use_io_uring = true;
  const auto engine = make_engine(options);
  EXPECT_EQ(engine->name(), make_uring_engine(options).ok() ? "io_uring" : "threads");
}

}  // namespace
}  // namespace ucm::io
