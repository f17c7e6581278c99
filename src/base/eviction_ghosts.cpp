// SPDX-License-Identifier: Apache-2.0
#include "base/eviction_ghosts.h"

#include <algorithm>
#include <bit>

namespace ucm::base {
namespace {

uint64_t mixed(uint32_t fingerprint) { return fingerprint * 0x9E3779B97F4A7C15ull; }

// A number below `count`, evenly by the fingerprint.
uint32_t spread(uint32_t fingerprint, uint32_t count) {
  return static_cast<uint32_t>(((mixed(fingerprint) >> 32) * count) >> 32);
}

}  // namespace

// From bits that do not choose the line.
uint16_t GhostTable::tag_of(uint32_t fingerprint) {
  const auto tag = static_cast<uint16_t>((mixed(fingerprint) >> 24) & kTagMask);
  return tag == 0 ? static_cast<uint16_t>(kTagMask) : tag;
}

GhostTable::GhostTable(uint32_t ghosts, StateArena& arena)
    : lines_(std::max(1u, (ghosts + kLine - 1) / kLine)),
      places_(std::clamp(ghosts, 1u, kLine)),
      ghosts_(arena.take<Ghost>(size_t{lines_} * kLine)) {}

GhostTable::Ghost* GhostTable::line(uint32_t fingerprint) const {
  return ghosts_ + size_t{spread(fingerprint, lines_)} * kLine;
}

uint32_t GhostTable::find_in(const Ghost* line, uint16_t tag) const {
  for (uint32_t place = 0; place < places_; ++place) {
    const uint16_t found = line[place].tag();
    if (found == tag) return place;
    if (found == 0) break;
  }
  return places_;
}

void GhostTable::remove(Ghost* line, uint32_t place) {
  std::copy(line + place + 1, line + places_, line + place);
  line[places_ - 1] = {};
}

std::optional<uint16_t> GhostTable::find(uint32_t fingerprint) const {
  const Ghost* const ghosts = line(fingerprint);
  const uint32_t place = find_in(ghosts, tag_of(fingerprint));
  if (place == places_) return std::nullopt;
  return ghosts[place].number();
}

std::optional<uint16_t> GhostTable::take(uint32_t fingerprint) {
  Ghost* const ghosts = line(fingerprint);
  const uint32_t place = find_in(ghosts, tag_of(fingerprint));
  if (place == places_) return std::nullopt;
  const uint16_t number = ghosts[place].number();
  remove(ghosts, place);
  return number;
}

std::optional<uint16_t> GhostTable::push(uint32_t fingerprint, uint16_t number) {
  Ghost* const ghosts = line(fingerprint);
  const Ghost last = ghosts[places_ - 1];
  std::copy_backward(ghosts, ghosts + places_ - 1, ghosts + places_);
  const uint32_t ghost = tag_of(fingerprint) | uint32_t{number} << 14;
  ghosts[0] = {{static_cast<uint8_t>(ghost), static_cast<uint8_t>(ghost >> 8),
                static_cast<uint8_t>(ghost >> 16)}};
  return last.tag() == 0 ? std::nullopt : std::optional<uint16_t>(last.number());
}

uint32_t GhostTable::trim(uint32_t fingerprint, uint16_t number, uint32_t limit) {
  Ghost* const ghosts = line(fingerprint);
  const uint32_t share = (limit + lines_ - 1) / lines_;
  uint32_t kept = 0;
  uint32_t left = 0;
  for (uint32_t place = 0; place < places_ && ghosts[place].tag() != 0;) {
    if (ghosts[place].number() != number || ++kept <= share) {
      ++place;
      continue;
    }
    remove(ghosts, place);
    ++left;
  }
  return left;
}

FingerprintTable::FingerprintTable(uint32_t numbers, StateArena& arena)
    : heads_count_(std::bit_ceil(std::max(2u, numbers))),
      entries_(arena.take<Entry>(numbers)),
      heads_(arena.take<uint32_t>(heads_count_)) {}

uint32_t& FingerprintTable::head(uint32_t fingerprint) const {
  return heads_[spread(fingerprint, heads_count_)];
}

uint32_t FingerprintTable::find(uint32_t fingerprint) const {
  uint32_t place = head(fingerprint);
  while (place != 0 && entries_[place - 1].fingerprint != fingerprint) {
    place = entries_[place - 1].next;
  }
  return place - 1;
}

void FingerprintTable::add(uint32_t number, uint32_t fingerprint) {
  uint32_t& first = head(fingerprint);
  entries_[number] = {fingerprint, first};
  first = number + 1;
}

void FingerprintTable::remove(uint32_t number) {
  uint32_t* place = &head(entries_[number].fingerprint);
  while (*place != number + 1) place = &entries_[*place - 1].next;
  *place = entries_[number].next;
}

}  // namespace ucm::base
