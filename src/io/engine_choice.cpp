// SPDX-License-Identifier: Apache-2.0
#include <atomic>

#include "io/engine.h"
#include "ucm/log.h"

namespace ucm::io {

std::shared_ptr<Engine> make_engine(const EngineOptions& options) {
  if (options.use_io_uring) {
    auto engine = make_uring_engine(options);
    if (engine.ok()) return std::move(engine).value();
    static std::atomic<bool> said{false};
    if (!said.exchange(true)) {
      log(LogLevel::warning, "io: %s; reading and writing with %u threads instead",
          engine.status().message().c_str(), options.threads);
    }
  }
  return make_thread_engine(options);
}

}  // namespace ucm::io
