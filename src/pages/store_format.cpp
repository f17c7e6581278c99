// SPDX-License-Identifier: Apache-2.0
#include "pages/store_format.h"

#include <sys/random.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>

#include "io/flat_json.h"
#include "ucm/layout.h"

namespace ucm::pages {
namespace {

constexpr const char* kFormatWord = "ucm-pages";

Result<uint64_t> number(const io::FlatJson& object, const char* key, uint64_t low, uint64_t high) {
  const auto found = object.find(key);
  const uint64_t* value = found == object.end() ? nullptr : std::get_if<uint64_t>(&found->second);
  if (!value || *value < low || *value > high) {
    return make_status(Code::corruption, "'%s' is missing or out of range", key);
  }
  return *value;
}

Result<std::string> text_of(const io::FlatJson& object, const char* key) {
  const auto found = object.find(key);
  const std::string* value =
      found == object.end() ? nullptr : std::get_if<std::string>(&found->second);
  if (!value) return make_status(Code::corruption, "'%s' is missing", key);
  return *value;
}

Result<uint64_t> version_of(const io::FlatJson& object) {
  UCM_TRY_ASSIGN(const std::string word, text_of(object, "format"));
  if (word != kFormatWord)
    return make_status(Code::corruption, "the format is not '%s'", kFormatWord);
  return number(object, "version", 0, UINT64_MAX);
}

bool parse_hex(std::string_view digits, uint64_t* out) {
  *out = 0;
  for (const char c : digits) {
    unsigned digit = 16;
    if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
    if (c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
    if (digit == 16) return false;
    *out = *out * 16 + digit;
  }
  return true;
}

// Each is 16 hex digits; an id of 0 needs no place in the list.
Result<LayoutList> layouts_of(const io::FlatJson& object) {
  UCM_TRY_ASSIGN(const std::string text, text_of(object, "layouts"));
  LayoutList layouts(text.size() / 16);
  bool good = text.size() % 16 == 0 && layouts.size() <= kMostLayouts;
  for (size_t i = 0; i < layouts.size(); ++i) {
    good = good && parse_hex(std::string_view(text).substr(16 * i, 16), &layouts[i]) &&
           layouts[i] != 0;
  }
  if (good) return layouts;
  return make_status(Code::corruption, "'layouts' is not a list of ids in 16 hex digits each");
}

}  // namespace

std::string StoreFormat::segment_name(uint64_t segment) const {
  char name[32];
  std::snprintf(name, sizeof name, "%s%05" PRIu64, kSegmentPrefix, segment);
  return name;
}

std::string format_text(const StoreFormat& format) {
  char uuid[33];
  std::snprintf(uuid, sizeof uuid, "%016" PRIx64 "%016" PRIx64, format.uuid[0], format.uuid[1]);
  std::string layouts;
  for (const uint64_t id : format.layouts) {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016" PRIx64, id);
    layouts += digits;
  }
  return io::format_flat_json({{"format", kFormatWord},
                               {"version", kFormatVersion},
                               {"uuid", std::string(uuid)},
                               {"alignment", uint64_t{kAlign}},
                               {"slot_bytes", format.slot_bytes},
                               {"segment_slots", format.segment_slots},
                               {"capacity_slots", format.capacity_slots},
                               {"layouts", layouts}});
}

Result<StoreFormat> parse_format(std::string_view text) {
  UCM_TRY_ASSIGN(const io::FlatJson object, io::parse_flat_json(text));
  UCM_TRY_ASSIGN(const uint64_t version, version_of(object));
  if (version != kFormatVersion) {
    return make_status(Code::unsupported,
                       "the store has format version %" PRIu64 ", this build knows %" PRIu64
                       "; use a matching version of ucm or another path",
                       version, kFormatVersion);
  }
  StoreFormat format;
  UCM_TRY_ASSIGN(const std::string uuid, text_of(object, "uuid"));
  if (uuid.size() != 32 || !parse_hex(std::string_view(uuid).substr(0, 16), &format.uuid[0]) ||
      !parse_hex(std::string_view(uuid).substr(16), &format.uuid[1])) {
    return make_status(Code::corruption, "'uuid' is not 32 hex digits");
  }
  UCM_TRY_ASSIGN(const uint64_t alignment, number(object, "alignment", kAlign, kAlign));
  UCM_TRY_ASSIGN(format.slot_bytes, number(object, "slot_bytes", alignment, uint64_t{1} << 32));
  if (format.slot_bytes % alignment != 0) {
    return make_status(Code::corruption, "'slot_bytes' is no multiple of %" PRIu64, alignment);
  }
  UCM_TRY_ASSIGN(format.segment_slots, number(object, "segment_slots", 1, kMaxSlots));
  UCM_TRY_ASSIGN(format.capacity_slots, number(object, "capacity_slots", 1, kMaxSlots));
  UCM_TRY_ASSIGN(format.layouts, layouts_of(object));
  return format;
}

bool is_older_format(std::string_view text) {
  const auto object = io::parse_flat_json(text);
  if (!object.ok()) return false;
  const auto version = version_of(object.value());
  return version.ok() && version.value() < kFormatVersion;
}

std::array<uint64_t, 2> make_uuid() {
  std::array<uint64_t, 2> uuid = {};
  if (::getrandom(uuid.data(), sizeof uuid, 0) != sizeof uuid) {
    // No entropy call here: the time to the nanosecond still tells two stores of a machine apart.
    const auto now = std::chrono::system_clock::now().time_since_epoch().count();
    uuid = {static_cast<uint64_t>(now), static_cast<uint64_t>(now) * 0x9E3779B97F4A7C15ull};
  }
  return uuid;
}

}  // namespace ucm::pages
