// SPDX-License-Identifier: Apache-2.0
#include "store/quotas.h"

#include <algorithm>
#include <charconv>

namespace ucm {
namespace {

constexpr size_t kLongestName = 64;
const std::string kRest = "(rest)";

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// A whole number that is all of `text`.
template <typename Number>
bool parse(std::string_view text, Number* number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, *number);
  return error == std::errc() && stop == end;
}

Result<uint64_t> parse_quota(const std::string& name, std::string_view text, uint64_t capacity) {
  if (text.ends_with('%')) {
    double percent = 0;
    if (!parse(text.substr(0, text.size() - 1), &percent) || !(percent > 0 && percent <= 100)) {
      return make_status(Code::invalid_argument,
                         "quotas: %s: '%s' is not a share above 0 %% and up to 100 %%",
                         name.c_str(), std::string(text).c_str());
    }
    if (capacity == 0) {
      return make_status(Code::invalid_argument,
                         "quotas: %s: a share needs capacity_bytes; set it, or give bytes",
                         name.c_str());
    }
    return static_cast<uint64_t>(static_cast<double>(capacity) * percent / 100);
  }
  uint64_t bytes = 0;
  if (!parse(text, &bytes) || bytes == 0 || bytes > (uint64_t{1} << 62)) {
    return make_status(Code::invalid_argument,
                       "quotas: %s: '%s' is neither a share such as 40%% nor a number of bytes",
                       name.c_str(), std::string(text).c_str());
  }
  return bytes;
}

}  // namespace

Status check_namespace(std::string_view name) {
  const bool sound = !name.empty() && name.size() <= kLongestName && is_letter_or_digit(name[0]) &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return is_letter_or_digit(c) || c == '.' || c == '-' || c == '_';
                     });
  if (sound) return {};
  return make_status(Code::invalid_argument,
                     "namespace '%s': expected 1 to 64 letters, digits, '.', '-' and '_', the "
                     "first one a letter or a digit",
                     std::string(name).c_str());
}

Result<Quotas> Quotas::make(std::span<const std::string> entries, uint64_t capacity_bytes) {
  Quotas quotas;
  quotas.bytes_.clear();
  uint64_t sum = 0;
  for (const std::string& entry : entries) {
    const size_t equals = entry.rfind('=');
    if (equals == std::string::npos) {
      return make_status(Code::invalid_argument, "quotas: '%s': expected name=40%% or name=BYTES",
                         entry.c_str());
    }
    const std::string name = entry.substr(0, equals);
    if (Status status = check_namespace(name); !status.ok()) {
      return std::move(status).with_context("quotas");
    }
    if (std::count(quotas.names_.begin(), quotas.names_.end(), name) > 0) {
      return make_status(Code::invalid_argument, "quotas: %s is named twice", name.c_str());
    }
    UCM_TRY_ASSIGN(const uint64_t bytes,
                   parse_quota(name, std::string_view(entry).substr(equals + 1), capacity_bytes));
    quotas.names_.push_back(name);
    quotas.bytes_.push_back(bytes);
    sum += bytes;
    // Also keeps the sum from running over.
    if (capacity_bytes > 0 && sum > capacity_bytes) {
      return make_status(Code::invalid_argument,
                         "quotas: together they are more than the capacity of %llu bytes; %s does "
                         "not fit",
                         static_cast<unsigned long long>(capacity_bytes), name.c_str());
    }
  }
  quotas.bytes_.push_back(capacity_bytes == 0 ? kNoLimit : capacity_bytes - sum);
  return quotas;
}

size_t Quotas::share_of(std::string_view name) const {
  return static_cast<size_t>(std::find(names_.begin(), names_.end(), name) - names_.begin());
}

Status Quotas::check_room(std::string_view name) const {
  if (bytes(share_of(name)) > 0) return {};
  return make_status(Code::invalid_argument,
                     "quotas: namespace '%s' has none, and nothing is left for the rest",
                     std::string(name).c_str());
}

std::string Quotas::share_name(std::span<const std::string> entries, std::string_view name) {
  for (const std::string& entry : entries) {
    if (std::string_view(entry).substr(0, entry.rfind('=')) == name) return std::string(name);
  }
  return kRest;
}

const std::string& Quotas::name(size_t share) const {
  return share == names_.size() ? kRest : names_[share];
}

bool QuotaRoom::take(uint64_t bytes, Clock::time_point deadline) {
  if (limit_ == Quotas::kNoLimit) return true;
  std::unique_lock lock(mutex_);
  counted_changed_.wait_until(lock, std::min(deadline, patient_until_),
                              [this] { return counted_ || closed_; });
  if (!counted_) return false;
  const uint64_t taken = used_ + kept_ + under_way_;
  if (taken > limit_ || bytes > limit_ - taken) return false;
  under_way_ += bytes;
  return true;
}

void QuotaRoom::settle(uint64_t bytes, bool kept) {
  if (limit_ == Quotas::kNoLimit) return;
  const std::lock_guard lock(mutex_);
  under_way_ -= bytes;
  if (kept) kept_ += bytes;
}

void QuotaRoom::begin_count() {
  const std::lock_guard lock(mutex_);
  kept_before_ = kept_;
}

void QuotaRoom::end_count(uint64_t used) {
  const std::lock_guard lock(mutex_);
  // What was kept before the count began is in it. What was kept meanwhile may be: it is taken
  // twice until the next count, never left out.
  kept_ -= kept_before_;
  kept_before_ = 0;
  used_ = used;
  counted_ = true;
  counted_changed_.notify_all();
}

void QuotaRoom::close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  counted_changed_.notify_all();
}

}  // namespace ucm
