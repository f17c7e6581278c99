// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "ucm/key.h"

namespace ucm {
namespace {

int nibble(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

std::string BlockKey::hex() const {
  static constexpr char kDigits[] = "0123456789abcdef";
  unsigned char bytes[kBytes];
  std::memcpy(bytes, this, kBytes);
  std::string text(2 * kBytes, '0');
  for (size_t i = 0; i < kBytes; ++i) {
    text[2 * i] = kDigits[bytes[i] >> 4];
    text[2 * i + 1] = kDigits[bytes[i] & 15];
  }
  return text;
}

std::string BlockKey::prefix() const { return hex().substr(0, 8) + "..."; }

bool BlockKey::parse(std::string_view hex, BlockKey* key) {
  if (hex.size() != 2 * kBytes) return false;
  unsigned char bytes[kBytes];
  for (size_t i = 0; i < kBytes; ++i) {
    const int high = nibble(hex[2 * i]);
    const int low = nibble(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<unsigned char>(high << 4 | low);
  }
  *key = from_bytes(bytes);
  return true;
}

}  // namespace ucm
