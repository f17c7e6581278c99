// SPDX-License-Identifier: Apache-2.0
// What libFuzzer calls: the first byte picks the parser, the rest is its input.
#include <cstdint>

#include "fuzz_targets.h"
#include "ucm/log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool quiet = [] {
    ucm::set_log_sink([](ucm::LogLevel, std::string_view) {}, ucm::LogLevel::off);
    return true;
  }();
  if (!quiet || size == 0) return 0;
  const auto targets = ucm::test::fuzz_targets();
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  targets[data[0] % targets.size()].run({bytes + 1, size - 1});
  return 0;
}
