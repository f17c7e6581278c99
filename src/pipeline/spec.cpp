// SPDX-License-Identifier: Apache-2.0
#include "pipeline/spec.h"

#include <algorithm>
#include <set>
#include <string>

#include "base/option_reader.h"
#include "ucm/pipeline.h"

namespace ucm {

std::vector<std::string> stage_names() {
  std::vector<std::string> names;
  for (const StageEntry* entry : stage_table()) names.emplace_back(entry->name);
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> option_names() {
  std::set<std::string> names = {"platform", "device_id"};
  for (const StageEntry* entry : stage_table()) {
    for (const std::string_view key : entry->option_keys) names.emplace(key);
  }
  return {names.begin(), names.end()};
}

namespace pipeline {
namespace {

std::string trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return std::string(text);
}

std::string known_stages() {
  std::string text;
  for (const std::string& name : stage_names()) text += (text.empty() ? "" : ", ") + name;
  return text;
}

Status check_order(std::string_view spec, const std::vector<const StageEntry*>& stages) {
  for (size_t i = 0; i < stages.size(); ++i) {
    if (i > 0 && stages[i]->role == StageRole::cache) {
      return make_status(Code::invalid_argument,
                         "pipeline '%s': %s holds device memory and must come first",
                         std::string(spec).c_str(), stages[i]->name);
    }
    if (stages[i]->role == StageRole::sink && i > 0 && stages[i - 1]->role == StageRole::storage) {
      return make_status(Code::invalid_argument,
                         "pipeline '%s': %s keeps no bytes and can not stand below %s",
                         std::string(spec).c_str(), stages[i]->name, stages[i - 1]->name);
    }
    if (stages[i]->role == StageRole::sink && i + 1 < stages.size()) {
      return make_status(Code::invalid_argument, "pipeline '%s': nothing can stand below %s",
                         std::string(spec).c_str(), stages[i]->name);
    }
  }
  return {};
}

}  // namespace

Result<std::vector<const StageEntry*>> parse_spec(std::string_view spec) {
  std::vector<const StageEntry*> stages;
  for (size_t start = 0; start <= spec.size();) {
    const size_t end = std::min(spec.find('|', start), spec.size());
    const std::string name = trimmed(spec.substr(start, end - start));
    start = end + 1;
    const StageEntry* entry = find_stage(name);
    if (!entry) {
      const std::string near = base::nearest(name, stage_names());
      return make_status(Code::invalid_argument,
                         "pipeline '%s': unknown stage '%s'%s%s; known stages: %s, joined by '|'",
                         std::string(spec).c_str(), name.c_str(),
                         near.empty() ? "" : ", did you mean ", near.c_str(),
                         known_stages().c_str());
    }
    stages.push_back(entry);
  }
  UCM_TRY(check_order(spec, stages));
  return stages;
}

Status check_option_names(const Options& options) {
  const std::vector<std::string> known = option_names();
  for (const auto& [key, value] : options) {
    const size_t dot = key.find('.');
    const bool prefixed = dot != std::string::npos;
    if (prefixed && !find_stage(std::string_view(key).substr(0, dot))) {
      return make_status(Code::invalid_argument, "option '%s': no stage is called '%s'",
                         key.c_str(), key.substr(0, dot).c_str());
    }
    const std::string plain = prefixed ? key.substr(dot + 1) : key;
    if (std::binary_search(known.begin(), known.end(), plain)) continue;
    const std::string near = base::nearest(plain, known);
    return make_status(Code::invalid_argument, "option '%s' is unknown%s%s", key.c_str(),
                       near.empty() ? "" : ", did you mean ", near.c_str());
  }
  return {};
}

}  // namespace pipeline
}  // namespace ucm
