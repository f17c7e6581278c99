// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace ucm::test {

using Bytes = std::vector<std::byte>;

// A parser of bytes that come from outside. `run` gives it bytes and checks what it answers: a
// broken promise ends the process, as the sanitizers do for everything else.
struct FuzzTarget {
  const char* name;
  // What the real writer makes: the inputs that are changed.
  std::vector<Bytes> (*corpus)();
  // Makes the checksums fit again, so that what lies behind them is reached.
  void (*repair)(Bytes* input, std::mt19937_64* random);
  void (*run)(std::span<const std::byte> input);
  unsigned cost;  // of a run, beside those of other targets
};

std::span<const FuzzTarget> fuzz_targets();

// A folder of this process for targets that read files, removed at its end.
const std::string& fuzz_folder();

// Ends the process with a line that says what was broken.
void promise(bool kept, const char* what);

}  // namespace ucm::test
