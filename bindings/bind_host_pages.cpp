// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <tuple>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/host_pages.h"
#include "ucm/page_copy.h"

namespace nb = nanobind;

namespace ucm::bindings {
namespace {

using Slots = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Pages = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::vector<BlockKey> keys_of(const nb::bytes& bytes) {
  if (bytes.size() % BlockKey::kBytes != 0) {
    raise_unless_ok(make_status(Code::invalid_argument, "keys: %zu bytes are not whole keys of 16",
                                bytes.size()));
  }
  std::vector<BlockKey> keys(bytes.size() / BlockKey::kBytes);
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i] = BlockKey::from_bytes(static_cast<const char*>(bytes.data()) + i * BlockKey::kBytes);
  }
  return keys;
}

std::shared_ptr<Device> device_of(const std::string& platform, int device_id) {
  if (platform.empty()) return nullptr;
  return value_or_raise(open_device(platform, device_id));
}

// The index is in memory and its lock is held for microseconds: the GIL stays where it is.
std::tuple<std::vector<int32_t>, std::vector<bool>> allocate(HostPages& pages,
                                                             const nb::bytes& keys) {
  std::tuple<std::vector<int32_t>, std::vector<bool>> out;
  for (const HostPages::Allocation& each : pages.allocate(keys_of(keys))) {
    std::get<0>(out).push_back(each.page);
    std::get<1>(out).push_back(each.ready);
  }
  return out;
}

nb::dict stats_of(HostPages& pages) {
  const HostPagesStats s = pages.stats();
  nb::dict out;
  out["pages"] = s.pages;
  out["empty"] = s.empty;
  out["loading"] = s.loading;
  out["ready"] = s.ready;
  out["lost"] = s.lost;
  out["referenced"] = s.referenced;
  out["asked"] = s.asked;
  out["found"] = s.found;
  out["filled"] = s.filled;
  out["evicted"] = s.evicted;
  out["refused"] = s.refused;
  out["recycled"] = s.recycled;
  out["offload_pages"] = s.offload_pages;
  out["offload_dropped"] = s.offload_dropped;
  out["offload_waiting"] = s.offload_waiting;
  out["misused"] = s.misused;
  out["repairs"] = s.repairs;
  out["engine_loads"] = s.engine_loads;
  out["engine_dumps"] = s.engine_dumps;
  return out;
}

void bind_opening(nb::class_<HostPages>& type) {
  type.def_static(
          "create",
          [](const std::string& name, uint32_t pages, size_t page_bytes, bool huge_pages,
             bool numa_interleave, const std::string& platform, int device_id) {
            HostPagesOptions options{name,       pages,           page_bytes,
                                     huge_pages, numa_interleave, device_of(platform, device_id)};
            auto made = [&] {
              const nb::gil_scoped_release unlocked;
              return HostPages::create(options);
            }();
            return value_or_raise(std::move(made));
          },
          nb::arg("name"), nb::arg("pages"), nb::arg("page_bytes") = 0,
          nb::arg("huge_pages") = true, nb::arg("numa_interleave") = false,
          nb::arg("platform") = "", nb::arg("device_id") = 0,
          "Makes them; page_bytes 0 makes the index alone.")
      .def_static(
          "attach",
          [](const std::string& name, bool with_memory, const std::string& platform,
             int device_id) {
            HostPagesOptions options;
            options.name = name;
            options.page_bytes = with_memory ? 1 : 0;
            options.device = device_of(platform, device_id);
            auto made = [&] {
              const nb::gil_scoped_release unlocked;
              return HostPages::attach(options);
            }();
            return value_or_raise(std::move(made));
          },
          nb::arg("name"), nb::arg("with_memory") = true, nb::arg("platform") = "",
          nb::arg("device_id") = 0, "Joins those of another process; raises NotFound.");
}

void bind_calls(nb::class_<HostPages>& type) {
  type.def("allocate", &allocate, nb::arg("keys"),
           "(page, filled already) per 16-byte key; -1 from the first that finds no page.")
      .def(
          "query",
          [](HostPages& pages, const nb::bytes& keys) { return pages.query(keys_of(keys)); },
          nb::arg("keys"), "Pages of the leading keys that are filled, with a reference each.")
      .def(
          "find",
          [](HostPages& pages, const nb::bytes& key) {
            const auto keys = keys_of(key);
            return keys.size() == 1 ? pages.find(keys[0]) : HostPages::kNone;
          },
          nb::arg("key"), "Page of a key or -1; takes no reference.")
      .def(
          "mark_ready",
          [](HostPages& pages, const std::vector<int32_t>& list, bool release, bool offload) {
            raise_unless_ok(pages.mark_ready(list, release, offload));
          },
          nb::arg("pages"), nb::arg("release"), nb::arg("offload"))
      .def(
          "release",
          [](HostPages& pages, const std::vector<int32_t>& list) {
            raise_unless_ok(pages.release(list));
          },
          nb::arg("pages"))
      .def(
          "all_ready",
          [](const HostPages& pages, const std::vector<int32_t>& list) {
            return value_or_raise(pages.all_ready(list));
          },
          nb::arg("pages"))
      .def("take_offloads", &HostPages::take_offloads)
      .def(
          "view",
          [](const HostPages& pages, int32_t page) {
            const HostPages::PageView v = value_or_raise(pages.view(page));
            return nb::make_tuple(nb::bytes(reinterpret_cast<const char*>(&v.key), sizeof(v.key)),
                                  v.state, v.references);
          },
          nb::arg("page"), nb::sig("def view(self, page: int) -> tuple[bytes, int, int]"),
          "(key, state, references); state 0 empty, 1 loading, 2 ready, 3 lost.")
      .def(
          "count_transfer",
          [](HostPages& pages, bool load, uint64_t count) {
            pages.count_transfer(load ? Direction::load : Direction::dump, count);
          },
          nb::arg("load"), nb::arg("count"))
      .def("stats", &stats_of, nb::sig("def stats(self) -> dict[str, int]"))
      .def_prop_ro("pages", &HostPages::pages)
      .def_prop_ro("page_bytes", &HostPages::page_bytes)
      .def_prop_ro("memory_page_bytes", &HostPages::memory_page_bytes)
      .def_prop_ro("pinned", &HostPages::pinned)
      .def_prop_ro(
          "address", [](const HostPages& p) { return reinterpret_cast<uintptr_t>(p.data()); },
          "Address of page 0 in this process, 0 without memory.");
}

std::unique_ptr<PageCopier> make_copier(
    const std::string& platform, int device_id, std::tuple<uint64_t, size_t, size_t, size_t> engine,
    std::tuple<uint64_t, size_t, size_t, size_t> pages, uint32_t page_count, uint32_t page_tokens,
    uint32_t layers, const std::vector<std::tuple<size_t, size_t, size_t>>& parts,
    unsigned threads) {
  PageGeometry g;
  g.engine = reinterpret_cast<std::byte*>(std::get<0>(engine));
  std::tie(std::ignore, g.engine_layer_stride, g.engine_slot_stride, g.engine_slots) = engine;
  g.pages = reinterpret_cast<std::byte*>(std::get<0>(pages));
  std::tie(std::ignore, g.page_stride, g.page_layer_stride, g.page_token_stride) = pages;
  g.page_count = page_count;
  g.page_tokens = page_tokens;
  g.layers = layers;
  for (const auto& [engine_offset, page_offset, bytes] : parts) {
    g.parts.push_back({engine_offset, page_offset, bytes});
  }
  return value_or_raise(PageCopier::make(device_of(platform, device_id), std::move(g), threads));
}

void bind_copies(nb::module_& module) {
  nb::class_<PageCopier>(module, "PageCopier",
                         "Whole pages between an engine's KV buffer and CPU pages, by layers.")
      .def_static(
          "make", &make_copier, nb::arg("platform"), nb::arg("device_id"), nb::arg("engine"),
          nb::arg("pages"), nb::arg("page_count"), nb::arg("page_tokens"), nb::arg("layers"),
          nb::arg("parts"), nb::arg("threads"),
          "engine: (address, layer stride, slot stride, slots); pages: (address, page stride, "
          "layer stride, token stride); parts: (offset in a slot, offset in a page's token, bytes) "
          "of a token. All in bytes.")
      .def(
          "copy",
          [](PageCopier& copier, bool load, Slots slots, Pages pages, uint32_t first_layer,
             uint32_t layers, uint64_t event) {
            const nb::gil_scoped_release unlocked;
            return copier.copy(load ? Direction::load : Direction::dump,
                               {slots.data(), slots.size()}, {pages.data(), pages.size()},
                               first_layer, layers, event);
          },
          nb::arg("load"), nb::arg("slots"), nb::arg("pages"), nb::arg("first_layer"),
          nb::arg("layers"), nb::arg("event") = 0,
          "Starts copying; row r of the task is layer first_layer + r.");
}

}  // namespace

void bind_host_pages(nb::module_& module) {
  nb::class_<HostPages> type(module, "HostPages",
                             "CPU pages that several processes share by name.");
  bind_opening(type);
  bind_calls(type);
  bind_copies(module);
}

}  // namespace ucm::bindings
