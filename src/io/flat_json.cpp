// SPDX-License-Identifier: Apache-2.0
#include "io/flat_json.h"

namespace ucm::io {
namespace {

class FlatParser {
 public:
  explicit FlatParser(std::string_view text) : text_(text) {}

  Result<FlatJson> parse() {
    FlatJson object;
    if (!take('{')) return damaged("an object");
    if (!take('}')) {
      do {
        std::string key;
        if (!take_text(&key)) return damaged("a key");
        if (!take(':')) return damaged("':'");
        std::variant<uint64_t, std::string> value;
        if (!take_value(&value)) return damaged("a text or a whole number");
        if (!object.emplace(std::move(key), std::move(value)).second) return damaged("a fresh key");
      } while (take(','));
      if (!take('}')) return damaged("'}'");
    }
    skip_space();
    if (at_ != text_.size()) return damaged("the end");
    return object;
  }

 private:
  Status damaged(const char* expected) const {
    return make_status(Code::corruption, "not the expected JSON: %s wanted at byte %zu", expected,
                       at_);
  }
  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
      ++at_;
    }
  }
  bool take(char wanted) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  bool take_text(std::string* out) {
    if (!take('"')) return false;
    while (at_ < text_.size()) {
      char c = text_[at_++];
      if (c == '"') return true;
      if (static_cast<unsigned char>(c) < 0x20) return false;
      if (c == '\\') {
        if (at_ >= text_.size()) return false;
        c = text_[at_++];
        if (c != '"' && c != '\\' && c != '/') return false;
      }
      out->push_back(c);
    }
    return false;
  }
  bool take_value(std::variant<uint64_t, std::string>* out) {
    skip_space();
    if (at_ >= text_.size()) return false;
    if (text_[at_] == '"') {
      std::string text;
      if (!take_text(&text)) return false;
      *out = std::move(text);
      return true;
    }
    uint64_t number = 0;
    size_t digits = 0;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') {
      // 18 digits always fit; longer numbers are no size of ours.
      if (++digits > 18) return false;
      number = number * 10 + static_cast<uint64_t>(text_[at_++] - '0');
    }
    *out = number;
    return digits > 0;
  }

  std::string_view text_;
  size_t at_ = 0;
};

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}

}  // namespace

Result<FlatJson> parse_flat_json(std::string_view text) { return FlatParser(text).parse(); }

std::string format_flat_json(const FlatJson& object) {
  std::string text = "{";
  const char* separator = "\n";
  for (const auto& [key, value] : object) {
    text += separator;
    text += "  " + quoted(key) + ": ";
    if (const auto* number = std::get_if<uint64_t>(&value)) {
      text += std::to_string(*number);
    } else {
      text += quoted(std::get<std::string>(value));
    }
    separator = ",\n";
  }
  return text + "\n}\n";
}

}  // namespace ucm::io
