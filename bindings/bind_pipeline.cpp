// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <variant>
#include <vector>

#include "bind_errors.h"
#include "binders.h"
#include "ucm/pipeline.h"

namespace nb = nanobind;

namespace ucm::bindings {
namespace {

using Shards = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using OneShardOrEach = std::variant<uint32_t, Shards>;
using Addresses = nb::ndarray<const uint64_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// The bytes object must outlive the span; a call keeps its arguments alive.
std::span<const BlockKey> key_span(const nb::bytes& keys) {
  if (keys.size() % BlockKey::kBytes != 0) {
    raise_unless_ok(make_status(Code::invalid_argument,
                                "keys: %zu bytes are not a whole number of 16-byte keys",
                                keys.size()));
  }
  return {reinterpret_cast<const BlockKey*>(keys.c_str()), keys.size() / BlockKey::kBytes};
}

class PipelineObject {
 public:
  PipelineObject(const std::string& spec, const Options& options, const std::vector<size_t>& pieces,
                 uint32_t shards, uint64_t layout_id, bool read_only) {
    PipelineConfig config;
    config.spec = spec;
    config.options = options;
    config.read_only = read_only;
    if (!pieces.empty()) {
      config.layout = value_or_raise(BlockLayout::make(pieces, shards, layout_id));
    }
    Result<std::unique_ptr<Pipeline>> opened = [&] {
      const nb::gil_scoped_release unlocked;
      return Pipeline::open(config);
    }();
    pipeline_ = value_or_raise(std::move(opened));
  }
  // Closing waits for threads that may want the GIL for a log line.
  ~PipelineObject() {
    const nb::gil_scoped_release unlocked;
    pipeline_.reset();
  }

  nb::bytes lookup(const nb::bytes& keys) {
    return ask_each(keys,
                    [this](auto span, auto answers) { return pipeline_->lookup(span, answers); });
  }

  size_t lookup_prefix(const nb::bytes& keys) {
    const auto span = key_span(keys);
    Result<size_t> count = [&] {
      const nb::gil_scoped_release unlocked;
      return pipeline_->lookup_prefix(span);
    }();
    return value_or_raise(std::move(count));
  }

  void prefetch(const nb::bytes& keys) { call_with_keys(keys, &Pipeline::prefetch); }
  void remove(const nb::bytes& keys) { call_with_keys(keys, &Pipeline::remove); }
  void abandon(const nb::bytes& keys) { call_with_keys(keys, &Pipeline::abandon); }
  void renew(const nb::bytes& keys) { call_with_keys(keys, &Pipeline::renew); }

  void unpin(const nb::bytes& keys) { call_with_keys(keys, &Pipeline::unpin); }

  nb::bytes pin(const nb::bytes& keys) {
    return ask_each(keys,
                    [this](auto span, auto answers) { return pipeline_->pin(span, answers); });
  }

  TaskPtr transfer(Direction direction, const nb::bytes& keys, const OneShardOrEach& shards,
                   const Addresses& addresses, uintptr_t event, bool on_host) {
    static_assert(sizeof(uintptr_t) == sizeof(uint64_t));
    const auto span = key_span(keys);
    if (addresses.shape(0) != span.size()) {
      raise_unless_ok(make_status(Code::invalid_argument,
                                  "batch: %zu rows of addresses for %zu keys", addresses.shape(0),
                                  span.size()));
    }
    Batch batch;
    batch.keys = span;
    std::vector<uint32_t> same;
    if (const auto* each = std::get_if<Shards>(&shards)) {
      batch.shards = {each->data(), each->shape(0)};
    } else if (const uint32_t one = std::get<uint32_t>(shards); one != 0) {
      same.assign(span.size(), one);
      batch.shards = same;
    }
    batch.addresses = {reinterpret_cast<const uintptr_t*>(addresses.data()), addresses.size()};
    batch.event = event;
    batch.on_host = on_host;
    const nb::gil_scoped_release unlocked;
    return direction == Direction::load ? pipeline_->load(batch) : pipeline_->dump(batch);
  }

  nb::list metrics() const {
    static constexpr const char* kKinds[] = {"counter", "gauge", "histogram"};
    nb::list out;
    for (const MetricSample& sample : pipeline_->metrics()) {
      nb::dict labels;
      for (const auto& [key, value] : sample.labels) labels[nb::str(key.c_str())] = value;
      nb::object value = nb::float_(sample.value);
      if (sample.kind == MetricKind::histogram) {
        value = nb::make_tuple(sample.bounds, sample.counts, sample.value);
      }
      out.append(nb::make_tuple(sample.name, kKinds[static_cast<int>(sample.kind)], labels, value));
    }
    return out;
  }

  void close() {
    const nb::gil_scoped_release unlocked;
    pipeline_->close();
  }

  std::vector<std::string> stages() const { return pipeline_->stages(); }
  uintptr_t address() const {
    return reinterpret_cast<uintptr_t>(static_cast<Store*>(pipeline_.get()));
  }

 private:
  // One byte per key.
  template <typename Call>
  nb::bytes ask_each(const nb::bytes& keys, const Call& call) {
    const auto span = key_span(keys);
    std::vector<uint8_t> answers(span.size());
    Status status;
    {
      const nb::gil_scoped_release unlocked;
      status = call(span, std::span<uint8_t>(answers));
    }
    raise_unless_ok(status);
    return nb::bytes(answers.data(), answers.size());
  }

  void call_with_keys(const nb::bytes& keys, Status (Store::*call)(std::span<const BlockKey>)) {
    const auto span = key_span(keys);
    Status status;
    {
      const nb::gil_scoped_release unlocked;
      status = (pipeline_.get()->*call)(span);
    }
    raise_unless_ok(status);
  }

  std::unique_ptr<Pipeline> pipeline_;
};

}  // namespace

void bind_pipeline(nb::module_& module) {
  nb::class_<PipelineObject>(module, "Pipeline",
                             "Stages of a spec such as 'Cache|Disk' as one store.")
      .def(nb::init<const std::string&, const Options&, const std::vector<size_t>&, uint32_t,
                    uint64_t, bool>(),
           nb::arg("spec"), nb::arg("options"), nb::arg("pieces") = std::vector<size_t>(),
           nb::arg("shards") = 1, nb::arg("layout_id") = 0, nb::kw_only(),
           nb::arg("read_only") = false)
      .def("lookup", &PipelineObject::lookup, nb::arg("keys"),
           "One byte of 0 or 1 per 16-byte key.")
      .def("lookup_prefix", &PipelineObject::lookup_prefix, nb::arg("keys"),
           "Count of leading keys that are present.")
      .def("prefetch", &PipelineObject::prefetch, nb::arg("keys"))
      .def("remove", &PipelineObject::remove, nb::arg("keys"))
      .def("abandon", &PipelineObject::abandon, nb::arg("keys"),
           "Uses nothing of a dump that was broken off; a complete block below stays.")
      .def("renew", &PipelineObject::renew, nb::arg("keys"),
           "After a chain came in several batches, its head first: tails leave before heads again.")
      .def("pin", &PipelineObject::pin, nb::arg("keys"),
           "One byte per key: 1 when the block is stored and kept from eviction now.")
      .def("unpin", &PipelineObject::unpin, nb::arg("keys"))
      .def(
          "load",
          [](PipelineObject& self, const nb::bytes& keys, const OneShardOrEach& shards,
             const Addresses& addresses, uintptr_t event, bool on_host) {
            return self.transfer(Direction::load, keys, shards, addresses, event, on_host);
          },
          nb::arg("keys"), nb::arg("shards").noconvert(), nb::arg("addresses").noconvert(),
          nb::arg("event") = 0, nb::arg("on_host") = false,
          "Start copying blocks to (rows, pieces) addresses.")
      .def(
          "dump",
          [](PipelineObject& self, const nb::bytes& keys, const OneShardOrEach& shards,
             const Addresses& addresses, uintptr_t event, bool on_host) {
            return self.transfer(Direction::dump, keys, shards, addresses, event, on_host);
          },
          nb::arg("keys"), nb::arg("shards").noconvert(), nb::arg("addresses").noconvert(),
          nb::arg("event") = 0, nb::arg("on_host") = false,
          "Start copying blocks from (rows, pieces) addresses.")
      .def("metrics", &PipelineObject::metrics,
           nb::sig("def metrics(self) -> list[tuple[str, str, dict[str, str], "
                   "float | tuple[list[float], list[int], float]]]"),
           "(name, kind, labels, value) per metric; a histogram's value is (bounds, counts, sum).")
      .def("close", &PipelineObject::close)
      .def_prop_ro("stages", &PipelineObject::stages)
      .def_prop_ro("address", &PipelineObject::address,
                   "Address of the native ucm::Store, valid while this object lives.");
}

}  // namespace ucm::bindings
