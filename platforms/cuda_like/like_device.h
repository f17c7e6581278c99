// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "copy_method.h"
#include "descriptor_ring.h"
#include "pinned_ranges.h"
#include "ucm/device.h"
#include "ucm/log.h"

namespace ucm::cuda_like {

// Makes a device current for the life of the object: engine threads keep the one they chose.
template <class Rt>
class CurrentDevice {
 public:
  explicit CurrentDevice(int id) {
    if (Rt::get_device(&before_) != 0 || before_ == id) before_ = -1;
    error_ = Rt::set_device(id);
  }
  ~CurrentDevice() {
    if (before_ >= 0) (void)Rt::set_device(before_);
  }
  int error() const { return error_; }

 private:
  int before_ = -1;
  int error_ = 0;
};

// A Device over a runtime that follows CUDA's; `Rt` is described in README.md. Copies of one call
// go out by the method that suits their sizes.
template <class Rt>
class LikeDevice final : public Device {
 public:
  // Large enough to be rare, small enough that one refusal does not lock the driver for long.
  static constexpr size_t kPinChunk = size_t{1} << 30;

  LikeDevice(int id, typename Rt::Batch batch, const MethodTable& methods,
             size_t pin_chunk = kPinChunk)
      : id_(id), batch_(batch), methods_(methods), pin_chunk_(pin_chunk) {}

  const char* platform() const override { return Rt::kPlatform; }
  int id() const override { return id_; }
  bool asynchronous() const override { return true; }
  Status bind_thread() override { return said("set device", Rt::set_device(id_)); }

  Result<StreamHandle> make_stream(Direction direction) override {
    const CurrentDevice<Rt> current(id_);
    UCM_TRY(said("set device", current.error()));
    auto stream = std::make_unique<OwnStream>();
    const int error = Rt::make_stream(&stream->handle, direction == Direction::load);
    UCM_TRY(said("make stream", error));
    if constexpr (Rt::kKernels) {
      if (!methods_.kernel) return StreamHandle{stream.release()};
      if (const int refused = stream->ring.open(); refused != 0) {
        destroy_stream(stream.release());
        return said("map kernel arguments", refused);
      }
    }
    return StreamHandle{stream.release()};
  }
  void destroy_stream(StreamHandle stream) override {
    const std::unique_ptr<OwnStream> owned(own(stream));
    (void)Rt::synchronize(owned->handle);
    if constexpr (Rt::kKernels) owned->ring.close();
    (void)Rt::destroy_stream(owned->handle);
  }
  Status wait_event(StreamHandle stream, uintptr_t event) override {
    if (event == 0) return {};
    return said("wait for an engine's event",
                Rt::stream_wait(own(stream)->handle, reinterpret_cast<typename Rt::Event>(event)));
  }
  Status copy(StreamHandle stream, Direction direction, std::span<const CopyPiece> pieces) override;
  Status synchronize(StreamHandle stream) override {
    return said("synchronize", Rt::synchronize(own(stream)->handle));
  }
  std::vector<std::string> copy_methods() const override {
    std::vector<std::string> names = {kChosenMethod, "each"};
    if (methods_.batch) names.push_back("batch");
    names.push_back("pitched");
    if (methods_.kernel) names.push_back("kernel");
    return names;
  }
  Status use_method(StreamHandle stream, const std::string& method) override;

  Result<EventHandle> make_event() override {
    const CurrentDevice<Rt> current(id_);
    UCM_TRY(said("set device", current.error()));
    typename Rt::Event event{};
    UCM_TRY(said("make event", Rt::make_event(&event)));
    return reinterpret_cast<EventHandle>(event);
  }
  void destroy_event(EventHandle event) override { (void)Rt::destroy_event(vendor(event)); }
  Status record(EventHandle event, StreamHandle stream) override {
    return said("record event", Rt::record(vendor(event), own(stream)->handle));
  }
  Status wait_host(EventHandle event) override {
    return said("wait for copies", Rt::event_wait(vendor(event)));
  }
  Status wait_engine(uintptr_t engine_stream, EventHandle event) override {
    const CurrentDevice<Rt> current(id_);  // whose default stream 0 is
    UCM_TRY(said("set device", current.error()));
    return said(
        "let an engine's stream wait",
        Rt::stream_wait(reinterpret_cast<typename Rt::Stream>(engine_stream), vendor(event)));
  }

  Status register_host(void* address, size_t bytes) override;
  Status unregister_host(void* address) override;
  Result<void*> alloc_memory(size_t bytes) override {
    const CurrentDevice<Rt> current(id_);
    UCM_TRY(said("set device", current.error()));
    void* memory = nullptr;
    UCM_TRY(said("allocate device memory", Rt::alloc(&memory, bytes)));
    return memory;
  }
  void free_memory(void* memory) override { (void)Rt::free(memory); }
  int numa_node() const override;

 private:
  struct OwnStream {
    typename Rt::Stream handle{};
    std::optional<CopyMethod> method;  // nothing: chosen for each call
    DescriptorRing<Rt> ring;
    std::vector<CopyPiece> cut;
    std::vector<void*> dsts;
    std::vector<void*> srcs;
    std::vector<size_t> sizes;
  };

  static OwnStream* own(StreamHandle stream) { return static_cast<OwnStream*>(stream); }
  static typename Rt::Event vendor(EventHandle event) {
    return reinterpret_cast<typename Rt::Event>(event);
  }
  Status said(const char* action, int error) const {
    if (error == 0) return {};
    return make_status(Code::device_error, "platform %s: device %d: %s: %s", Rt::kPlatform, id_,
                       action, Rt::text(error));
  }
  int copy_each(OwnStream* stream, bool load);
  int copy_batch(OwnStream* stream, bool load);
  int copy_pitched(OwnStream* stream, bool load, const CopyShape& shape);
  int copy_by_kernel(OwnStream* stream, bool load);
  bool mapped(const OwnStream& stream, Direction direction) const;
  bool pitch_fits(const OwnStream& stream, Direction direction, const CopyShape& shape) const;
  DevicePiece as_seen(const CopyPiece& piece, bool load) const;
  void undo(const std::vector<PinnedChunk>& chunks);

  const int id_;
  const typename Rt::Batch batch_;
  const MethodTable methods_;
  const size_t pin_chunk_;
  PinnedRanges pinned_;
};

template <class Rt>
Status LikeDevice<Rt>::copy(StreamHandle handle, Direction direction,
                            std::span<const CopyPiece> pieces) {
  OwnStream* stream = own(handle);
  stream->cut.clear();
  pinned_.cut(pieces, direction, &stream->cut);
  if (stream->cut.empty()) return {};
  const bool load = direction == Direction::load;
  const CopyShape shape = shape_of(stream->cut);
  CopyMethod method = stream->method.value_or(methods_.choose(shape, direction));
  if (method == CopyMethod::pitched && !pitch_fits(*stream, direction, shape)) {
    method = CopyMethod::each;
  }
  // Memory the kernel can not reach (never the pool's own) goes by copy calls.
  if (method == CopyMethod::kernel && !mapped(*stream, direction)) method = CopyMethod::each;
  switch (method) {
    case CopyMethod::batch:
      return said("batch copy", copy_batch(stream, load));
    case CopyMethod::pitched:
      return said("two-dimensional copy", copy_pitched(stream, load, shape));
    case CopyMethod::kernel:
      return said("copy kernel", copy_by_kernel(stream, load));
    case CopyMethod::each:
      break;
  }
  return said("copy", copy_each(stream, load));
}

template <class Rt>
Status LikeDevice<Rt>::use_method(StreamHandle stream, const std::string& method) {
  const std::vector<std::string> known = copy_methods();
  if (std::find(known.begin(), known.end(), method) == known.end()) {
    return make_status(Code::invalid_argument, "platform %s: device %d has no way of copying '%s'",
                       Rt::kPlatform, id_, method.c_str());
  }
  own(stream)->method.reset();
  for (size_t i = 0; i < kMethodNames.size(); ++i) {
    if (method == kMethodNames[i]) own(stream)->method = static_cast<CopyMethod>(i);
  }
  return {};
}

template <class Rt>
int LikeDevice<Rt>::copy_each(OwnStream* stream, bool load) {
  for (const CopyPiece& piece : stream->cut) {
    const int error = Rt::copy_async(piece.dst, piece.src, piece.bytes, load, stream->handle);
    if (error != 0) return error;
  }
  return 0;
}

template <class Rt>
int LikeDevice<Rt>::copy_batch(OwnStream* stream, bool load) {
  stream->dsts.clear();
  stream->srcs.clear();
  stream->sizes.clear();
  for (const CopyPiece& piece : stream->cut) {
    stream->dsts.push_back(piece.dst);
    stream->srcs.push_back(const_cast<void*>(piece.src));
    stream->sizes.push_back(piece.bytes);
  }
  return batch_(stream->dsts.data(), stream->srcs.data(), stream->sizes.data(),
                stream->sizes.size(), load, stream->handle);
}

template <class Rt>
int LikeDevice<Rt>::copy_pitched(OwnStream* stream, bool load, const CopyShape& shape) {
  const CopyPiece& first = stream->cut.front();
  return Rt::copy_2d_async(first.dst, shape.pitch.dst, first.src, shape.pitch.src, first.bytes,
                           shape.pieces, load, stream->handle);
}

template <class Rt>
int LikeDevice<Rt>::copy_by_kernel(OwnStream* stream, bool load) {
  if constexpr (Rt::kKernels) {
    using Ring = DescriptorRing<Rt>;
    for (size_t at = 0; at < stream->cut.size(); at += Ring::kPerSegment) {
      const size_t count = std::min(Ring::kPerSegment, stream->cut.size() - at);
      typename Ring::Segment* segment = nullptr;
      if (int error = stream->ring.acquire(&segment)) return error;
      for (size_t i = 0; i < count; ++i) segment->host[i] = as_seen(stream->cut[at + i], load);
      if (int error = Rt::launch_pieces(segment->device, count, stream->handle)) return error;
      if (int error = stream->ring.release(segment, stream->handle)) return error;
    }
    return 0;
  } else {
    return copy_each(stream, load);
  }
}

template <class Rt>
DevicePiece LikeDevice<Rt>::as_seen(const CopyPiece& piece, bool load) const {
  const auto host = reinterpret_cast<uintptr_t>(load ? piece.src : piece.dst);
  auto* seen = reinterpret_cast<void*>(pinned_.device_address(host));
  return load ? DevicePiece{piece.dst, seen, piece.bytes}
              : DevicePiece{seen, piece.src, piece.bytes};
}

template <class Rt>
bool LikeDevice<Rt>::mapped(const OwnStream& stream, Direction direction) const {
  return std::all_of(stream.cut.begin(), stream.cut.end(), [&](const CopyPiece& piece) {
    const void* host = direction == Direction::load ? piece.src : piece.dst;
    return pinned_.device_address(reinterpret_cast<uintptr_t>(host)) != 0;
  });
}

template <class Rt>
bool LikeDevice<Rt>::pitch_fits(const OwnStream& stream, Direction direction,
                                const CopyShape& shape) const {
  if (!shape.pitched) return false;  // a method that was asked for may not fit
  const bool load = direction == Direction::load;
  const CopyPiece& first = stream.cut.front();
  const auto host = reinterpret_cast<uintptr_t>(load ? first.src : first.dst);
  const size_t pitch = load ? shape.pitch.src : shape.pitch.dst;
  return pinned_.in_one_chunk(host, pitch * (shape.pieces - 1) + first.bytes);
}

template <class Rt>
Status LikeDevice<Rt>::register_host(void* address, size_t bytes) {
  const CurrentDevice<Rt> current(id_);
  UCM_TRY(said("set device", current.error()));
  std::vector<PinnedChunk> chunks;
  for (size_t offset = 0; offset < bytes; offset += pin_chunk_) {
    void* host = static_cast<std::byte*>(address) + offset;
    const size_t length = std::min(pin_chunk_, bytes - offset);
    if (const int error = Rt::register_host(host, length); error != 0) {
      undo(chunks);
      return said("pin host memory", error);
    }
    void* seen = nullptr;
    if (Rt::kKernels && Rt::device_address(&seen, host) != 0) seen = nullptr;
    chunks.push_back(
        {reinterpret_cast<uintptr_t>(host), length, reinterpret_cast<uintptr_t>(seen)});
  }
  pinned_.add(chunks);
  return {};
}

template <class Rt>
Status LikeDevice<Rt>::unregister_host(void* address) {
  const CurrentDevice<Rt> current(id_);
  UCM_TRY(said("set device", current.error()));
  const std::vector<PinnedChunk> chunks = pinned_.take(reinterpret_cast<uintptr_t>(address));
  if (chunks.empty()) {
    return make_status(Code::invalid_argument, "platform %s: memory at %p was not registered",
                       Rt::kPlatform, address);
  }
  undo(chunks);
  return {};
}

template <class Rt>
void LikeDevice<Rt>::undo(const std::vector<PinnedChunk>& chunks) {
  for (const PinnedChunk& chunk : chunks) {
    const int error = Rt::unregister_host(reinterpret_cast<void*>(chunk.host));
    if (error != 0) {
      log(LogLevel::warning, "platform %s: device %d: unpin host memory: %s", Rt::kPlatform, id_,
          Rt::text(error));
    }
  }
}

template <class Rt>
int LikeDevice<Rt>::numa_node() const {
  char bus[32] = {};
  if (Rt::bus_id(bus, sizeof bus, id_) != 0) return -1;
  std::string name = bus;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  std::ifstream file("/sys/bus/pci/devices/" + name + "/numa_node");
  int node = -1;
  return file >> node ? node : -1;
}

}  // namespace ucm::cuda_like
