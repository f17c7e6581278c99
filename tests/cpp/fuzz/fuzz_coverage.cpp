// SPDX-License-Identifier: Apache-2.0
// How libFuzzer changes an input: as it likes, behind the byte that picks the parser. Every other
// time the checksums are made to fit again, which no search by coverage would find.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "fuzz_targets.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t most);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t most, unsigned seed) {
  if (size < 2 || most < 2) return LLVMFuzzerMutate(data, size, most);
  const size_t changed = LLVMFuzzerMutate(data + 1, size - 1, most - 1);
  std::mt19937_64 random(seed);
  if (random() % 2 == 0) return changed + 1;
  const auto targets = ucm::test::fuzz_targets();
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  ucm::test::Bytes input(bytes + 1, bytes + 1 + changed);
  targets[data[0] % targets.size()].repair(&input, &random);
  const size_t kept = std::min(input.size(), most - 1);
  std::memcpy(data + 1, input.data(), kept);
  return kept + 1;
}
