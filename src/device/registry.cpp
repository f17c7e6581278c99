// SPDX-License-Identifier: Apache-2.0
// Finds the platform modules libucm_<name>.so beside this library (or in UCM_PLATFORM_DIR) and
// loads them on first use. A module stays loaded until the process ends.
#include <dirent.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

#include "ucm/device.h"

namespace ucm {
namespace {

constexpr char kPrefix[] = "libucm_";
constexpr char kSuffix[] = ".so";

struct Registry {
  std::mutex mutex;
  std::map<std::string, const PlatformEntry*> loaded;
  std::map<std::pair<std::string, int>, std::weak_ptr<Device>> open;
};

Registry& registry() {
  static Registry* const instance = new Registry;  // devices may outlive static destruction
  return *instance;
}

std::string module_folder() {
  if (const char* folder = std::getenv("UCM_PLATFORM_DIR")) return folder;
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&module_folder), &info) == 0) return ".";
  const std::string path = info.dli_fname;
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

std::vector<std::string> module_names(const std::string& folder) {
  std::vector<std::string> names;
  DIR* directory = opendir(folder.c_str());
  if (!directory) return names;
  while (const dirent* entry = readdir(directory)) {
    const std::string file = entry->d_name;
    const size_t fixed = sizeof kPrefix + sizeof kSuffix - 2;
    if (file.size() > fixed && file.starts_with(kPrefix) && file.ends_with(kSuffix)) {
      names.push_back(file.substr(sizeof kPrefix - 1, file.size() - fixed));
    }
  }
  closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text.empty() ? "none" : text;
}

// Requires registry().mutex.
Result<const PlatformEntry*> load_module(const std::string& name) {
  Registry& r = registry();
  if (auto found = r.loaded.find(name); found != r.loaded.end()) return found->second;
  const std::string folder = module_folder();
  const std::vector<std::string> names = module_names(folder);
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    return make_status(Code::unavailable,
                       "platform %s: this build has no module for it (built: %s); reinstall with "
                       "PLATFORM=%s",
                       name.c_str(), joined(names).c_str(), name.c_str());
  }
  const std::string path = folder + "/" + kPrefix + name + kSuffix;
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!module) {
    return make_status(Code::unavailable, "platform %s: %s", name.c_str(), dlerror());
  }
  using EntryFunction = const PlatformEntry* (*)();
  const auto function = reinterpret_cast<EntryFunction>(dlsym(module, "ucm_platform_entry"));
  if (!function) {
    return make_status(Code::unavailable, "platform %s: %s exports no ucm_platform_entry",
                       name.c_str(), path.c_str());
  }
  const PlatformEntry* entry = function();
  // Nothing of the entry but its first field is believed before the numbers agree.
  if (entry->abi != kPlatformAbi) {
    return make_status(Code::unavailable,
                       "platform %s: module speaks ABI %u, this library %u; rebuild both together",
                       name.c_str(), entry->abi, kPlatformAbi);
  }
  if (name != entry->name) {
    return make_status(Code::unavailable,
                       "platform %s: %s is the module of platform %s under another name",
                       name.c_str(), path.c_str(), entry->name);
  }
  r.loaded[name] = entry;
  return entry;
}

}  // namespace

Result<std::shared_ptr<Device>> open_device(const std::string& platform, int id) {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  std::weak_ptr<Device>& known = r.open[{platform, id}];
  if (std::shared_ptr<Device> device = known.lock()) return device;
  UCM_TRY_ASSIGN(const PlatformEntry* entry, load_module(platform));
  UCM_TRY_ASSIGN(const int count, entry->count());
  if (id < 0 || id >= count) {
    return make_status(Code::unavailable, "platform %s: device %d does not exist, there are %d",
                       platform.c_str(), id, count);
  }
  UCM_TRY_ASSIGN(std::unique_ptr<Device> made, entry->make(id));
  std::shared_ptr<Device> device = std::move(made);
  known = device;
  return device;
}

std::vector<PlatformReport> platforms() {
  Registry& r = registry();
  const std::lock_guard lock(r.mutex);
  std::vector<PlatformReport> reports;
  for (const std::string& name : module_names(module_folder())) {
    PlatformReport report;
    report.name = name;
    const Result<const PlatformEntry*> entry = load_module(name);
    const Result<int> count = entry.ok() ? entry.value()->count() : Result<int>(entry.status());
    report.loaded = count.ok();
    report.devices = count.ok() ? count.value() : 0;
    report.reason = count.status().message();
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace ucm
