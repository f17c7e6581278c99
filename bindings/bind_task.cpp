// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/task.h"

namespace nb = nanobind;

namespace ucm::bindings {
namespace {

struct Milestone {
  Status (Task::*wait)(std::chrono::nanoseconds);
  bool (Task::*reached)() const;
};
constexpr Milestone kDone = {&Task::wait, &Task::done};
constexpr Milestone kStarted = {&Task::wait_started, &Task::started};
constexpr Milestone kReleased = {&Task::wait_released, &Task::released};

// Waits in slices, so that Ctrl-C reaches the caller while storage is slow.
void wait_for(Task& task, const Milestone& milestone, double timeout_s) {
  constexpr double kSlice = 0.1;
  const auto deadline = std::chrono::steady_clock::now() +
                        std::chrono::duration<double>(std::min(std::max(timeout_s, 0.0), 1e9));
  for (;;) {
    const double left =
        std::chrono::duration<double>(deadline - std::chrono::steady_clock::now()).count();
    const auto slice =
        std::chrono::nanoseconds(static_cast<int64_t>(std::clamp(left, 0.0, kSlice) * 1e9));
    Status status;
    {
      const nb::gil_scoped_release unlocked;
      status = (task.*milestone.wait)(slice);
    }
    // It may have come between the end of the slice and now: then the slice's answer is void.
    const bool reached = (task.*milestone.reached)();
    if (!reached && left > kSlice) {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      continue;
    }
    if (reached) status = task.status();
    raise_unless_ok(status, status.ok() ? std::vector<uint32_t>() : task.failed_rows());
    return;
  }
}

void wait_on_stream(Task& task, uintptr_t stream, double timeout_s) {
  wait_for(task, kStarted, timeout_s);
  Status status;
  {
    const nb::gil_scoped_release unlocked;
    status = task.order_stream(stream);
  }
  raise_unless_ok(status);
}

}  // namespace

void bind_task(nb::module_& module) {
  nb::class_<Task>(module, "Task", "A transfer under way; see ucm.store.Task.")
      .def(
          "wait", [](Task& task, double timeout_s) { wait_for(task, kDone, timeout_s); },
          nb::arg("timeout_s"), "Block until done; raises the first cause or Timeout.")
      .def(
          "wait_released",
          [](Task& task, double timeout_s) { wait_for(task, kReleased, timeout_s); },
          nb::arg("timeout_s"), "Block until the caller's memory is free or filled.")
      .def("wait_on_stream", &wait_on_stream, nb::arg("stream"), nb::arg("timeout_s"),
           "Block until every copy is on the device's streams, and let an engine's stream wait for "
           "them; raises what has failed by then.")
      .def("cancel", &Task::cancel, nb::call_guard<nb::gil_scoped_release>(),
           "End rows that have not started as cancelled.")
      .def_prop_ro("done", &Task::done)
      .def_prop_ro("released", &Task::released)
      .def_prop_ro("rows", &Task::rows)
      .def_prop_ro("failed_rows", &Task::failed_rows, "Rows that failed, complete once done.")
      .def_prop_ro(
          "error",
          [](const Task& task) -> nb::object {
            const Status status = task.status();
            if (!task.done() || status.ok()) return nb::none();
            return make_error(status, task.failed_rows());
          },
          "The first cause as an exception object, or None.");
}

}  // namespace ucm::bindings
