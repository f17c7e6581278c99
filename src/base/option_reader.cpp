// SPDX-License-Identifier: Apache-2.0
#include "base/option_reader.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <limits>

namespace ucm::base {
namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

OptionReader::OptionReader(const Options& options, std::string_view stage)
    : options_(options), prefix_(lower(stage) + ".") {}

const OptionValue* OptionReader::find(std::string_view key) const {
  auto found = options_.find(prefix_ + std::string(key));
  if (found == options_.end()) found = options_.find(std::string(key));
  return found == options_.end() ? nullptr : &found->second;
}

Status OptionReader::read_keeping(bool* second_use, double* pin_limit) const {
  constexpr std::array<std::string_view, 2> kAdmission = {"always", "second_use"};
  std::string admission = "always";
  UCM_TRY(read_choice("admission", kAdmission, &admission));
  *second_use = admission == "second_use";
  return read_share("pin_limit", pin_limit);
}

Status OptionReader::read_share(std::string_view key, double* target) const {
  double share = *target;
  UCM_TRY(read(key, &share));
  if (!(share >= 0 && share <= 0.9)) {
    return make_status(Code::invalid_argument, "option %s: %g is not from 0 to 0.9",
                       std::string(key).c_str(), share);
  }
  *target = share;
  return {};
}

Status OptionReader::wrong_type(std::string_view key, std::string_view expected) const {
  return make_status(Code::invalid_argument, "option %s%.*s: expected %.*s", prefix_.c_str(),
                     static_cast<int>(key.size()), key.data(), static_cast<int>(expected.size()),
                     expected.data());
}

Status OptionReader::read(std::string_view key, bool* target) const {
  const OptionValue* value = find(key);
  if (!value) return {};
  if (const auto* flag = std::get_if<bool>(value)) {
    *target = *flag;
    return {};
  }
  return wrong_type(key, "true or false");
}

Status OptionReader::read(std::string_view key, double* target) const {
  const OptionValue* value = find(key);
  if (!value) return {};
  if (const auto* number = std::get_if<double>(value)) {
    *target = *number;
    return {};
  }
  if (const auto* whole = std::get_if<int64_t>(value)) {
    *target = static_cast<double>(*whole);
    return {};
  }
  return wrong_type(key, "a number");
}

Status OptionReader::read(std::string_view key, std::string* target) const {
  const OptionValue* value = find(key);
  if (!value) return {};
  if (const auto* text = std::get_if<std::string>(value)) {
    *target = *text;
    return {};
  }
  return wrong_type(key, "a text");
}

Status OptionReader::read(std::string_view key, std::vector<std::string>* target) const {
  const OptionValue* value = find(key);
  if (!value) return {};
  if (const auto* list = std::get_if<std::vector<std::string>>(value)) {
    *target = *list;
    return {};
  }
  if (const auto* text = std::get_if<std::string>(value)) {
    *target = {*text};
    return {};
  }
  return wrong_type(key, "a text or a list of texts");
}

Status OptionReader::read(std::string_view key, uint64_t* target) const {
  const OptionValue* value = find(key);
  if (!value) return {};
  const auto* number = std::get_if<int64_t>(value);
  if (!number) return wrong_type(key, "a whole number");
  if (*number < 0 || *number > (int64_t{1} << 62))
    return wrong_type(key, "a number from 0 to 2^62");
  *target = static_cast<uint64_t>(*number);
  return {};
}

Status OptionReader::read(std::string_view key, uint32_t* target) const {
  uint64_t wide = *target;
  UCM_TRY(read(key, &wide));
  if (wide > std::numeric_limits<uint32_t>::max()) {
    return wrong_type(key, "a number from 0 to 4294967295");
  }
  *target = static_cast<uint32_t>(wide);
  return {};
}

Status OptionReader::read_choice(std::string_view key, std::span<const std::string_view> allowed,
                                 std::string* target) const {
  std::string value = *target;
  UCM_TRY(read(key, &value));
  if (std::find(allowed.begin(), allowed.end(), value) == allowed.end()) {
    std::string expected = "one of";
    for (const std::string_view choice : allowed) expected += " " + std::string(choice);
    return wrong_type(key, expected + ", not '" + value + "'");
  }
  *target = std::move(value);
  return {};
}

std::string nearest(std::string_view word, std::span<const std::string> candidates) {
  const std::string wanted = lower(word);
  const std::string* best = nullptr;
  size_t best_distance = std::max<size_t>(2, wanted.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(wanted, lower(candidate));
    if (distance < best_distance) {
      best_distance = distance;
      best = &candidate;
    }
  }
  return best ? *best : std::string();
}

}  // namespace ucm::base
