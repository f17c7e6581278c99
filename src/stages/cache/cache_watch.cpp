// SPDX-License-Identifier: Apache-2.0
#include "stages/cache/cache_watch.h"

namespace ucm::stages::cache {
namespace {

// A member that dies tells nobody.
constexpr std::chrono::milliseconds kBetweenLooks{100};
// Blocks become ready in batches: one look serves several of them.
constexpr std::chrono::microseconds kGather{300};

}  // namespace

CacheWatch::CacheWatch(std::shared_ptr<CacheFlow> flow) : flow_(std::move(flow)) {
  runs_ = thread_.submit(base::Lane::normal, [watched = flow_] {
    while (watched->wait_until_waiting()) {
      // Read before the look: what changes after it ends the sleep at once.
      const uint32_t seen = watched->event().now();
      if (!watched->look_again()) continue;
      watched->event().wait(seen, kBetweenLooks);
      std::this_thread::sleep_for(kGather);
    }
  });
}

CacheWatch::~CacheWatch() {
  flow_->stop_waiting();
  thread_.close();
}

}  // namespace ucm::stages::cache
