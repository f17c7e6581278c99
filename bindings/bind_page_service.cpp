// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <vector>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/page_service.h"

namespace nb = nanobind;

namespace ucm::bindings {
namespace {

// Strided arrays are taken as they are: the pages are read one by one.
using PageNumbers = nb::ndarray<const int32_t, nb::ndim<1>, nb::device::cpu>;
using Tokens = nb::ndarray<const uint64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A number below 2^128; anything else raises what int() itself would.
BlockKey to_key(nb::handle number) {
  const nb::object index = nb::steal(PyNumber_Index(number.ptr()));
  if (!index.is_valid()) throw nb::python_error();
  unsigned char bytes[BlockKey::kBytes];
#if PY_VERSION_HEX >= 0x030D0000
  const Py_ssize_t need =
      PyLong_AsNativeBytes(index.ptr(), bytes, sizeof bytes,
                           Py_ASNATIVEBYTES_LITTLE_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER |
                               Py_ASNATIVEBYTES_REJECT_NEGATIVE);
  if (need > static_cast<Py_ssize_t>(sizeof bytes)) {
    PyErr_SetString(PyExc_OverflowError, "a hash has more than 128 bits");
  }
  if (need < 0 || need > static_cast<Py_ssize_t>(sizeof bytes)) throw nb::python_error();
#else
  if (_PyLong_AsByteArray(reinterpret_cast<PyLongObject*>(index.ptr()), bytes, sizeof bytes, 1,
                          0) != 0) {
    throw nb::python_error();
  }
#endif
  return BlockKey::from_bytes(bytes);
}

// The keys of the blocks that the hashes of single pages make: each block's last one.
std::vector<BlockKey> block_keys(const nb::handle& hashes, uint32_t block_pages) {
  const nb::object list = nb::steal(PySequence_Fast(hashes.ptr(), "hashes: a list is expected"));
  if (!list.is_valid()) throw nb::python_error();
  const auto count = static_cast<size_t>(PySequence_Fast_GET_SIZE(list.ptr()));
  PyObject** const items = PySequence_Fast_ITEMS(list.ptr());
  std::vector<BlockKey> keys;
  keys.reserve((count + block_pages - 1) / block_pages);
  constexpr size_t kAhead = 16;
  for (size_t first = 0; first < count; first += block_pages) {
    // The numbers lie anywhere in the interpreter's memory.
    const size_t ahead = first + (kAhead + 1) * block_pages - 1;
    if (ahead < count) __builtin_prefetch(items[ahead]);
    keys.push_back(to_key(items[std::min<size_t>(first + block_pages, count) - 1]));
  }
  return keys;
}

// A page that holds one token must never pass for one that holds as many as a block has.
std::vector<BlockKey> token_keys(const Tokens& tokens, uint32_t block_pages) {
  std::vector<BlockKey> keys = hash_token_blocks({tokens.data(), tokens.shape(0)}, block_pages);
  for (BlockKey& key : keys) key.high ^= 0x746F6B656E73ull;
  return keys;
}

PageTensor describe(const nb::ndarray<>& tensor) {
  const auto demand = [](bool ok, const char* what) {
    raise_unless_ok(ok ? Status()
                       : make_status(Code::invalid_argument, "kvcache_tensor: %s", what));
  };
  demand(tensor.ndim() == 2, "two dimensions are expected: pages x bytes of a page");
  demand(tensor.device_type() == nb::device::cpu::value, "memory of the host is expected");
  demand(tensor.dtype() == nb::dtype<uint8_t>(), "uint8 is expected");
  demand(tensor.stride(1) == 1 && tensor.stride(0) == static_cast<int64_t>(tensor.shape(1)),
         "it must be contiguous");
  return {static_cast<std::byte*>(tensor.data()), tensor.shape(0), tensor.shape(1)};
}

class PageServiceObject {
 public:
  PageServiceObject(nb::ndarray<> tensor, const PageServiceOptions& options)
      : tensor_(std::move(tensor)) {
    const PageTensor described = describe(tensor_);
    Result<std::shared_ptr<PageService>> opened = [&] {
      const nb::gil_scoped_release unlocked;
      return PageService::open(options, described);
    }();
    service_ = value_or_raise(std::move(opened));
  }
  ~PageServiceObject() {
    const nb::gil_scoped_release unlocked;
    service_.reset();
  }

  nb::list lookup(const std::vector<BlockKey>& keys, uint64_t pages, uint32_t block_pages) {
    std::vector<uint8_t> present(keys.size());
    {
      const nb::gil_scoped_release unlocked;
      service_->lookup(keys, pages, block_pages, present);
    }
    nb::list out = nb::steal<nb::list>(PyList_New(static_cast<Py_ssize_t>(present.size())));
    for (size_t i = 0; i < present.size(); ++i) {
      PyList_SET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i),
                      Py_NewRef(present[i] ? Py_True : Py_False));
    }
    return out;
  }

  PageTaskPtr create(const std::vector<BlockKey>& keys, const PageNumbers& numbers,
                     uint32_t block_pages, bool write, uint32_t start_pos) {
    std::vector<int32_t> pages(numbers.shape(0));
    for (size_t i = 0; i < pages.size(); ++i) {
      pages[i] = numbers.data()[static_cast<int64_t>(i) * numbers.stride(0)];
    }
    const Direction direction = write ? Direction::dump : Direction::load;
    Result<PageTaskPtr> made = [&] {
      const nb::gil_scoped_release unlocked;
      return service_->create(direction, {keys, pages, block_pages, start_pos / block_pages});
    }();
    return value_or_raise(std::move(made));
  }

  void abort(const PageTaskPtr& task) {
    const nb::gil_scoped_release unlocked;
    service_->abort(task);
  }
  uint64_t active(bool write) const {
    return service_->active(write ? Direction::dump : Direction::load);
  }
  void close(double timeout_s) {
    const nb::gil_scoped_release unlocked;
    service_->close(std::chrono::milliseconds(static_cast<int64_t>(timeout_s * 1e3)));
  }

  nb::dict stats() const {
    const PageServiceStats stats = [&] {
      const nb::gil_scoped_release unlocked;
      return service_->stats();
    }();
    nb::dict out;
    out["capacity_bytes"] = stats.store.capacity_bytes;
    out["used_bytes"] = stats.store.used_bytes;
    out["pages_stored"] = stats.store.blocks;
    out["pages_evicted"] = stats.store.evicted;
    out["transfers_under_way"] = stats.store.transfers_under_way;
    out["direct"] = stats.store.direct;
    out["engine"] = stats.store.engine;
    out["pages_written"] = stats.pages_written;
    out["pages_read"] = stats.pages_read;
    out["pages_queried"] = stats.pages_queried;
    out["pages_found"] = stats.pages_found;
    out["staging_bytes"] = stats.staging_bytes;
    out["workers"] = stats.workers;
    out["dropped"] = counts(stats.store.dropped);
    out["failed_loads"] = counts(stats.failed_loads);
    out["failed_dumps"] = counts(stats.failed_dumps);
    return out;
  }

 private:
  static nb::dict counts(const std::map<std::string, uint64_t>& from) {
    nb::dict out;
    for (const auto& [cause, count] : from) out[nb::str(cause.c_str())] = count;
    return out;
  }

  nb::ndarray<> tensor_;  // keeps the caller's memory
  std::shared_ptr<PageService> service_;
};

void bind_page_task(nb::module_& module) {
  nb::class_<PageTask>(module, "PageTask", "Blocks under way; see light_mem.PyTask.")
      .def("ready", &PageTask::ready)
      .def("data_safe", &PageTask::data_safe)
      .def(
          "states",
          [](const PageTask& task) {
            const std::vector<BlockState> states = task.states();
            return nb::bytes(states.data(), states.size());
          },
          "One byte per block: 0 initial, 1 working, 2 finished, 3 aborted.")
      .def_prop_ro("already_stored", [](const PageTask& task) {
        return std::vector<int32_t>(task.already_stored());
      });
}

void bind_token_hash(nb::module_& module) {
  module.def(
      "hash_token_blocks",
      [](const Tokens& tokens, uint32_t block_tokens) {
        std::vector<std::string> out;
        for (const BlockKey& key :
             hash_token_blocks({tokens.data(), tokens.shape(0)}, block_tokens)) {
          char text[33];
          std::snprintf(text, sizeof text, "%016llx%016llx",
                        static_cast<unsigned long long>(key.high),
                        static_cast<unsigned long long>(key.low));
          out.emplace_back(text);
        }
        return out;
      },
      nb::arg("tokens"), nb::arg("block_tokens"));
}

}  // namespace

void bind_page_service(nb::module_& module) {
  bind_page_task(module);
  nb::class_<PageServiceObject>(module, "PageService",
                                "Pages of a tensor to and from disk; see light_mem.")
      .def(
          "__init__",
          [](PageServiceObject* self, nb::ndarray<> tensor, const std::string& path,
             uint64_t capacity_bytes, const std::string& scope, bool keep, bool read_only,
             const std::string& node, uint32_t workers, uint64_t staging_bytes) {
            PageServiceOptions options;
            options.path = path;
            options.capacity_bytes = capacity_bytes;
            options.scope = scope;
            options.keep = keep;
            options.read_only = read_only;
            options.node = node;
            options.workers = workers;
            options.staging_bytes = staging_bytes;
            new (self) PageServiceObject(std::move(tensor), options);
          },
          nb::arg("tensor"), nb::arg("path"), nb::arg("capacity_bytes"), nb::arg("scope"),
          nb::arg("keep") = true, nb::arg("read_only") = false, nb::arg("node") = "",
          nb::arg("workers") = 2, nb::arg("staging_bytes") = 32 << 20,
          nb::sig("def __init__(self, tensor: typing.Any, path: str, capacity_bytes: int, "
                  "scope: str, keep: bool = True, read_only: bool = False, node: str = '', "
                  "workers: int = 2, staging_bytes: int = 33554432) -> None"))
      .def(
          "query",
          [](PageServiceObject& self, nb::handle hashes, uint32_t block_pages) {
            const Py_ssize_t pages = PyObject_Length(hashes.ptr());
            if (pages < 0) throw nb::python_error();
            return self.lookup(block_keys(hashes, block_pages), static_cast<uint64_t>(pages),
                               block_pages);
          },
          nb::arg("hashes"), nb::arg("block_pages"),
          nb::sig("def query(self, hashes: collections.abc.Sequence[int], block_pages: int) "
                  "-> list[bool]"))
      .def(
          "query_tokens",
          [](PageServiceObject& self, const Tokens& tokens, uint32_t block_pages) {
            return self.lookup(token_keys(tokens, block_pages), tokens.shape(0), block_pages);
          },
          nb::arg("tokens"), nb::arg("block_pages"),
          nb::sig("def query_tokens(self, tokens: typing.Any, block_pages: int) -> list[bool]"))
      .def(
          "create",
          [](PageServiceObject& self, nb::handle hashes, const PageNumbers& pages,
             uint32_t block_pages, bool write, uint32_t start_pos) {
            return self.create(block_keys(hashes, block_pages), pages, block_pages, write,
                               start_pos);
          },
          nb::arg("hashes"), nb::arg("pages").noconvert(), nb::arg("block_pages"), nb::arg("write"),
          nb::arg("start_pos"),
          nb::sig("def create(self, hashes: collections.abc.Sequence[int], pages: typing.Any, "
                  "block_pages: int, write: bool, start_pos: int) -> PageTask"))
      .def(
          "create_tokens",
          [](PageServiceObject& self, const Tokens& tokens, const PageNumbers& pages,
             uint32_t block_pages, bool write, uint32_t start_pos) {
            return self.create(token_keys(tokens, block_pages), pages, block_pages, write,
                               start_pos);
          },
          nb::arg("tokens"), nb::arg("pages").noconvert(), nb::arg("block_pages"), nb::arg("write"),
          nb::arg("start_pos"))
      .def("abort", &PageServiceObject::abort, nb::arg("task"))
      .def("active", &PageServiceObject::active, nb::arg("write"))
      .def("stats", &PageServiceObject::stats, nb::sig("def stats(self) -> dict[str, typing.Any]"))
      .def("close", &PageServiceObject::close, nb::arg("timeout_s"));
  bind_token_hash(module);
}

}  // namespace ucm::bindings
