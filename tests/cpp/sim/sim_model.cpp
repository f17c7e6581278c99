// SPDX-License-Identifier: Apache-2.0
#include "sim_model.h"

#include <cstdlib>
#include <cstring>

namespace ucm::sim {
namespace {

uintptr_t number(const void* memory) { return reinterpret_cast<uintptr_t>(memory); }

KnownPtr holder(const std::map<uintptr_t, KnownPtr>& known, uintptr_t at, size_t bytes) {
  auto after = known.upper_bound(at);
  if (after == known.begin()) return nullptr;
  const KnownPtr& candidate = std::prev(after)->second;
  return at + bytes <= candidate->base + candidate->bytes ? candidate : nullptr;
}

}  // namespace

void Point::reach() {
  const std::lock_guard lock(mutex_);
  reached_ = true;
  changed_.notify_all();
}

void Point::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return reached_; });
}

bool Point::reached() {
  const std::lock_guard lock(mutex_);
  return reached_;
}

Stream::Stream(int device) : device_(device), thread_([this] { run(); }) {}

Stream::~Stream() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  ready_.notify_all();
  thread_.join();
}

void Stream::push(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
  }
  ready_.notify_all();
}

void Stream::run() {
  for (;;) {
    std::function<void()> next;
    {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [this] { return ended_ || !work_.empty(); });
      if (work_.empty()) return;
      next = std::move(work_.front());
      work_.pop_front();
    }
    next();
  }
}

Model& Model::the() {
  static Model* const instance = new Model;  // streams may outlive static destruction
  return *instance;
}

int Model::enter(const char* call) {
  const std::lock_guard lock(mutex_);
  ++calls_[call];
  const auto failing = failing_.find(call);
  if (failing == failing_.end() || failing->second-- > 0) return kOk;
  failing_.erase(failing);
  return kInjected;
}

int Model::misuse(const std::string& what) {
  const std::lock_guard lock(mutex_);
  mistakes_.push_back(what);
  return kInvalid;
}

int Model::make_stream(Stream** stream, int device) {
  auto made = std::make_unique<Stream>(device);
  const std::lock_guard lock(mutex_);
  streams_.insert(made.get());
  *stream = made.release();
  return kOk;
}

int Model::destroy_stream(Stream* stream) {
  {
    const std::lock_guard lock(mutex_);
    if (streams_.erase(stream) == 0) stream = nullptr;
  }
  if (!stream) return misuse("a stream that does not exist was destroyed");
  delete stream;
  return kOk;
}

int Model::synchronize(Stream* stream) {
  auto point = std::make_shared<Point>();
  if (int answer = enqueue(stream, {}, [point] { point->reach(); })) return answer;
  point->wait();
  return kOk;
}

int Model::stream_wait(Stream* stream, Event* event) {
  {
    const std::lock_guard lock(mutex_);
    if (!events_.contains(event)) stream = nullptr;
  }
  if (!stream) return misuse("a stream was to wait for an event that does not exist");
  PointPtr point;
  {
    const std::lock_guard lock(event->mutex);
    point = event->point;
  }
  if (!point) return kOk;
  return enqueue(stream, {}, [point] { point->wait(); });
}

int Model::make_event(Event** event) {
  auto made = std::make_unique<Event>();
  const std::lock_guard lock(mutex_);
  events_.insert(made.get());
  *event = made.release();
  return kOk;
}

int Model::destroy_event(Event* event) {
  {
    const std::lock_guard lock(mutex_);
    if (events_.erase(event) == 0) event = nullptr;
  }
  if (!event) return misuse("an event that does not exist was destroyed");
  delete event;
  return kOk;
}

int Model::record(Event* event, Stream* stream) {
  {
    const std::lock_guard lock(mutex_);
    if (!events_.contains(event)) event = nullptr;
  }
  if (!event) return misuse("an event that does not exist was recorded");
  auto point = std::make_shared<Point>();
  if (int answer = enqueue(stream, {}, [point] { point->reach(); })) return answer;
  const std::lock_guard lock(event->mutex);
  event->point = point;
  return kOk;
}

int Model::event_wait(Event* event) {
  PointPtr point;
  {
    const std::lock_guard lock(mutex_);
    if (!events_.contains(event)) event = nullptr;
  }
  if (!event) return misuse("an event that does not exist was waited for");
  {
    const std::lock_guard lock(event->mutex);
    point = event->point;
  }
  if (point) point->wait();
  return kOk;
}

int Model::copy(void* dst, const void* src, size_t bytes, Way way, Stream* stream) {
  std::vector<KnownPtr> uses;
  if (int answer = claim(dst, src, bytes, way, &uses)) return answer;
  return enqueue(stream, std::move(uses), [=] { std::memcpy(dst, src, bytes); });
}

int Model::copy_rows(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t width,
                     size_t rows, Way way, Stream* stream) {
  if (width > dst_pitch || width > src_pitch) return misuse("a row is wider than its pitch");
  if (rows == 0) return kOk;
  // Both sides as one range each: pitched memory lies in one allocation.
  std::vector<KnownPtr> uses;
  const bool to_device = way == Way::load || way == Way::inside;
  const bool from_device = way == Way::dump || way == Way::inside;
  const size_t dst_bytes = dst_pitch * (rows - 1) + width;
  const size_t src_bytes = src_pitch * (rows - 1) + width;
  if (int answer = side(dst, dst_bytes, to_device, "destination", &uses)) return answer;
  if (int answer = side(src, src_bytes, from_device, "source", &uses)) return answer;
  return enqueue(stream, std::move(uses), [=] {
    for (size_t row = 0; row < rows; ++row) {
      std::memcpy(static_cast<char*>(dst) + row * dst_pitch,
                  static_cast<const char*>(src) + row * src_pitch, width);
    }
  });
}

int Model::launch(std::function<void()> body,
                  const std::vector<std::pair<const void*, size_t>>& touched, Stream* stream) {
  std::vector<KnownPtr> uses;
  for (const auto& [memory, bytes] : touched) {
    KnownPtr known = find(memory, bytes);
    if (!known) return misuse("a kernel was given memory that the device can not reach");
    uses.push_back(std::move(known));
  }
  return enqueue(stream, std::move(uses), std::move(body));
}

int Model::claim(const void* dst, const void* src, size_t bytes, Way way,
                 std::vector<KnownPtr>* uses) {
  const bool to_device = way == Way::load || way == Way::inside;
  const bool from_device = way == Way::dump || way == Way::inside;
  if (int answer = side(dst, bytes, to_device, "destination", uses)) return answer;
  return side(src, bytes, from_device, "source", uses);
}

int Model::side(const void* memory, size_t bytes, bool device, const char* name,
                std::vector<KnownPtr>* uses) {
  KnownPtr known = find(memory, bytes);
  const std::string text = std::string("the ") + name + " of a copy ";
  if (device && !(known && known->device)) {
    return misuse(text + "is not inside one allocation of the device");
  }
  if (!device && known && known->device) return misuse(text + "is on the device: wrong direction");
  if (!device && !known) {
    if (is_pinned(memory)) return misuse(text + "leaves the registration it begins in");
    if (pageable_is_refused)
      return misuse(text + "is not pinned: an asynchronous copy of it waits");
    return kOk;
  }
  uses->push_back(std::move(known));
  return kOk;
}

KnownPtr Model::find(const void* memory, size_t bytes) {
  const std::lock_guard lock(mutex_);
  for (const auto* known : {&device_memory_, &registered_host_, &allocated_host_}) {
    if (KnownPtr found = holder(*known, number(memory), bytes)) return found;
  }
  return nullptr;
}

bool Model::is_pinned(const void* memory) {
  const KnownPtr known = find(memory, 1);
  return known && !known->device;
}

int Model::enqueue(Stream* stream, std::vector<KnownPtr> uses, std::function<void()> body) {
  {
    const std::lock_guard lock(mutex_);
    if (!streams_.contains(stream)) stream = nullptr;
  }
  if (!stream) return misuse("work was given to the default stream or to one that does not exist");
  for (const KnownPtr& known : uses) ++known->uses;
  stream->push([this, uses = std::move(uses), body = std::move(body)] {
    dawdle();
    bool alive = true;
    for (const KnownPtr& known : uses) alive = alive && known->alive;
    if (alive) body();
    for (const KnownPtr& known : uses) --known->uses;
  });
  return kOk;
}

void Model::dawdle() {
  const int64_t longest = longest_delay_;
  if (longest == 0) return;
  thread_local std::mt19937_64 random(std::hash<std::thread::id>{}(std::this_thread::get_id()));
  if (random() % 8 != 0) return;
  std::this_thread::sleep_for(
      std::chrono::microseconds(static_cast<int64_t>(random() % static_cast<uint64_t>(longest))));
}

int Model::add(void* memory, size_t bytes, bool device, bool registered) {
  auto known = std::make_shared<Known>();
  known->base = number(memory);
  known->bytes = bytes;
  known->device = device;
  const std::lock_guard lock(mutex_);
  (device ? device_memory_ : registered ? registered_host_ : allocated_host_)[known->base] = known;
  return kOk;
}

int Model::remove(void* memory, bool device, bool registered, const char* action) {
  KnownPtr known;
  {
    const std::lock_guard lock(mutex_);
    auto& all = device ? device_memory_ : registered ? registered_host_ : allocated_host_;
    const auto found = all.find(number(memory));
    if (found != all.end()) {
      known = found->second;
      all.erase(found);
    }
  }
  if (!known) return misuse(std::string("memory that is not known was ") + action);
  known->alive = false;
  if (known->uses != 0) {
    return misuse(std::string("memory was ") + action + " while work on it was under way");
  }
  return kOk;
}

int Model::alloc(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!*memory) return kNoMemory;
  std::memset(*memory, 0xDD, bytes);
  return add(*memory, bytes, true, false);
}

int Model::free(void* memory) {
  if (int answer = remove(memory, true, false, "freed")) {
    const std::lock_guard lock(mutex_);
    refused_.push_back(memory);  // work may still touch it
    return answer;
  }
  std::free(memory);
  return kOk;
}

int Model::alloc_host(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  if (!*memory) return kNoMemory;
  std::memset(*memory, 0, bytes);
  return add(*memory, bytes, false, false);
}

int Model::free_host(void* memory) {
  if (int answer = remove(memory, false, false, "freed")) return answer;
  std::free(memory);
  return kOk;
}

int Model::register_host(void* memory, size_t bytes) {
  if (number(memory) % 4096 != 0) return misuse("registered memory does not begin with a page");
  if (find(memory, 1)) return misuse("memory was registered twice");
  return add(memory, bytes, false, true);
}

int Model::unregister_host(void* memory) { return remove(memory, false, true, "unregistered"); }

std::vector<std::string> Model::mistakes() {
  const std::lock_guard lock(mutex_);
  return mistakes_;
}

void Model::forget_mistakes() {
  const std::lock_guard lock(mutex_);
  mistakes_.clear();
}

void Model::fail(const std::string& call, int after) {
  const std::lock_guard lock(mutex_);
  failing_[call] = after;
}

int Model::calls(const std::string& call) {
  const std::lock_guard lock(mutex_);
  const auto found = calls_.find(call);
  return found == calls_.end() ? 0 : found->second;
}

std::map<std::string, size_t> Model::open_things() {
  const std::lock_guard lock(mutex_);
  return {{"streams", streams_.size()},
          {"events", events_.size()},
          {"device memory", device_memory_.size()},
          {"allocated host memory", allocated_host_.size()},
          {"registrations", registered_host_.size()}};
}

}  // namespace ucm::sim
