// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <memory>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/fault_rules.h"

namespace nb = nanobind;

namespace ucm::bindings {
namespace {

// Each entry has the fields of ucm.faults.FaultRule; the operation is its number.
void set_rules(const nb::list& entries) {
  std::vector<FaultRule> rules;
  for (const nb::handle entry : entries) {
    const auto fields = nb::cast<nb::dict>(entry);
    FaultRule rule;
    rule.operation = static_cast<FileOperation>(nb::cast<uint8_t>(fields["operation"]));
    rule.path = nb::cast<std::string>(fields["path"]);
    rule.skip = nb::cast<uint32_t>(fields["skip"]);
    if (!fields["count"].is_none()) rule.count = nb::cast<uint32_t>(fields["count"]);
    rule.error = nb::cast<int>(fields["error"]);
    rule.cut = nb::cast<bool>(fields["cut"]);
    rule.delay_ms = nb::cast<uint32_t>(fields["delay_ms"]);
    rule.hang = nb::cast<bool>(fields["hang"]);
    rule.probability = nb::cast<double>(fields["probability"]);
    rule.seed = nb::cast<uint64_t>(fields["seed"]);
    rules.push_back(std::move(rule));
  }
  const nb::gil_scoped_release unlocked;
  set_faults(std::move(rules));
}

class Recording {
 public:
  explicit Recording(const std::string& folder) {
    Result<std::unique_ptr<WriteRecording>> started = [&] {
      const nb::gil_scoped_release unlocked;
      return WriteRecording::start(folder);
    }();
    recording_ = value_or_raise(std::move(started));
  }

  uint64_t changes() {
    const nb::gil_scoped_release unlocked;
    return recording_->changes();
  }

  void rebuild(const std::string& to, uint64_t point, uint64_t seed, bool process_only) {
    Status status;
    {
      const nb::gil_scoped_release unlocked;
      status = recording_->rebuild({point, seed, process_only}, to);
    }
    raise_unless_ok(status);
  }

 private:
  std::unique_ptr<WriteRecording> recording_;
};

}  // namespace

void bind_faults(nb::module_& module) {
  module.def("set_faults", &set_rules, nb::arg("rules"),
             nb::sig("def set_faults(rules: list[dict[str, typing.Any]]) -> None"),
             "For tests: replaces the rules that disturb file system calls; see ucm.faults.");
  module.def("faults_taken", &faults_taken,
             "For tests: how often a rule has taken effect since set_faults.");
  nb::class_<Recording>(module, "WriteRecording",
                        "For tests: every change below a folder; see ucm.faults.")
      .def(nb::init<const std::string&>(), nb::arg("folder"))
      .def("changes", &Recording::changes, "The number of changes so far.")
      .def("rebuild", &Recording::rebuild, nb::arg("to"), nb::arg("point"), nb::arg("seed"),
           nb::arg("process_only"), "Makes the folder `to` what the disk holds after a loss.");
}

}  // namespace ucm::bindings
