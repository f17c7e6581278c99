// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "pages/index_entry.h"
#include "ucm/status.h"

namespace ucm::pages {

inline constexpr const char* kLockName = "LOCK";
inline constexpr const char* kFormatName = "FORMAT.json";
inline constexpr const char* kIndexName = "index";
inline constexpr const char* kTableName = "table";
inline constexpr const char* kSegmentPrefix = "seg-";

// What FORMAT.json says about a page store. `capacity_slots` may change at an open, which may also
// add a layout; the rest is fixed when the store is made.
struct StoreFormat {
  std::array<uint64_t, 2> uuid = {};
  uint64_t slot_bytes = 0;
  uint64_t segment_slots = 0;
  uint64_t capacity_slots = 0;
  LayoutList layouts;

  // Seeds of checksums: nothing of another store ever fits.
  uint64_t seed() const { return uuid[0] ^ (uuid[1] * 0x9E3779B97F4A7C15ull); }
  std::string segment_name(uint64_t segment) const;
};

inline constexpr uint64_t kFormatVersion = 2;
// Slot numbers share 32 bits with at least two tag bits in the bucket table.
inline constexpr uint64_t kMaxSlots = (1ull << 30) - 2;

std::string format_text(const StoreFormat& format);
// corruption for damage of any kind, unsupported for a version this build does not read.
Result<StoreFormat> parse_format(std::string_view text);
// Whether a version before this one wrote it.
bool is_older_format(std::string_view text);
// Random, from the kernel.
std::array<uint64_t, 2> make_uuid();

}  // namespace ucm::pages
