// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "io/request_run.h"

namespace ucm::io {

// One call into the kernel: a request, or several small ones that lie behind each other in one
// file and are moved together. A joined call that does not move everything is taken apart again,
// and each request goes on by itself with its own answer.
struct Flight {
  std::vector<RunPtr> runs;
  std::vector<iovec> parts;
  size_t bytes = 0;

  explicit Flight(RunPtr run) { append(std::move(run)); }

  bool write() const { return runs.front()->request.write; }
  bool joined() const { return runs.size() > 1; }

  // Small requests only: large ones gain nothing and would wait for each other.
  bool takes(const RequestRun& next) const {
    const Request& last = runs.back()->request;
    const Request& request = next.request;
    return request.file == last.file && request.offset == last.offset + last.bytes &&
           bytes + request.bytes <= kMaxBytes && parts.size() < kMaxParts && next.moved == 0 &&
           runs.front()->moved == 0 && detail::layers_on.load(std::memory_order_relaxed) == 0;
  }

  void append(RunPtr run) {
    const Request& request = run->request;
    bytes += request.bytes;
    auto* end = parts.empty()
                    ? nullptr
                    : static_cast<std::byte*>(parts.back().iov_base) + parts.back().iov_len;
    if (end == request.buffer && end != nullptr) {
      parts.back().iov_len += request.bytes;
    } else {
      parts.push_back({request.buffer, request.bytes});
    }
    runs.push_back(std::move(run));
  }

  static constexpr size_t kMaxBytes = size_t{512} << 10;
  static constexpr size_t kMaxParts = 128;
};

using FlightPtr = std::unique_ptr<Flight>;

}  // namespace ucm::io
