// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ucm/options.h"
#include "ucm/status.h"

namespace ucm::base {

// Typed access to Options for one stage: "<stage>.<key>" wins over "<key>". A missing key leaves
// the target as it is; a wrong type or an out-of-range number is invalid_argument naming the key.
class OptionReader {
 public:
  OptionReader(const Options& options, std::string_view stage);

  Status read(std::string_view key, bool* target) const;
  Status read(std::string_view key, double* target) const;
  Status read(std::string_view key, std::string* target) const;
  Status read(std::string_view key, std::vector<std::string>* target) const;
  // Numbers of bytes, slots, threads: 0 to 2^62.
  Status read(std::string_view key, uint64_t* target) const;
  Status read(std::string_view key, uint32_t* target) const;
  // One of `allowed`, else invalid_argument listing them.
  Status read_choice(std::string_view key, std::span<const std::string_view> allowed,
                     std::string* target) const;
  // 0 to 0.9.
  Status read_share(std::string_view key, double* target) const;
  // `admission` (always or second_use) and `pin_limit` (a share).
  Status read_keeping(bool* second_use, double* pin_limit) const;

 private:
  const OptionValue* find(std::string_view key) const;
  Status wrong_type(std::string_view key, std::string_view expected) const;

  const Options& options_;
  std::string prefix_;
};

// The candidate nearest to `word` by edit distance; empty when none is near.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace ucm::base
