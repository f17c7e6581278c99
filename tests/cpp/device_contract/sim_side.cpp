// SPDX-License-Identifier: Apache-2.0
// The simulated accelerators.
#include <cstring>
#include <sstream>

#include "device_side.h"
#include "sim_model.h"

namespace ucm::test {
namespace {

using sim::Model;

class SimSide : public DeviceSide {
 public:
  SimSide() {
    Model::the().forget_mistakes();
    Model::the().delay(std::chrono::microseconds(200));
  }
  ~SimSide() override { Model::the().delay(std::chrono::microseconds(0)); }

  std::byte* alloc(size_t bytes) override {
    void* memory = nullptr;
    (void)Model::the().alloc(&memory, bytes);
    return static_cast<std::byte*>(memory);
  }
  void free(std::byte* memory) override { (void)Model::the().free(memory); }
  void write(std::byte* device, const void* host, size_t bytes) override {
    std::memcpy(device, host, bytes);
  }
  void read(void* host, const std::byte* device, size_t bytes) override {
    std::memcpy(host, device, bytes);
  }

  uintptr_t make_stream() override {
    sim::Stream* stream = nullptr;
    (void)Model::the().make_stream(&stream, 0);
    return reinterpret_cast<uintptr_t>(stream);
  }
  void destroy_stream(uintptr_t stream) override { (void)Model::the().destroy_stream(own(stream)); }
  uintptr_t make_event() override {
    sim::Event* event = nullptr;
    (void)Model::the().make_event(&event);
    return reinterpret_cast<uintptr_t>(event);
  }
  void destroy_event(uintptr_t event) override { (void)Model::the().destroy_event(known(event)); }
  void record(uintptr_t event, uintptr_t stream) override {
    (void)Model::the().record(known(event), own(stream));
  }
  void synchronize(uintptr_t stream) override { (void)Model::the().synchronize(own(stream)); }
  void copy_inside(std::byte* dst, const std::byte* src, size_t bytes, uintptr_t stream) override {
    (void)Model::the().copy(dst, src, bytes, sim::Way::inside, own(stream));
  }
  std::function<void()> hold(uintptr_t stream) override {
    auto gate = std::make_shared<sim::Point>();
    (void)Model::the().launch([gate] { gate->wait(); }, {}, own(stream));
    return [gate] { gate->reach(); };
  }
  std::vector<std::string> mistakes() override { return Model::the().mistakes(); }

 private:
  static sim::Stream* own(uintptr_t stream) { return reinterpret_cast<sim::Stream*>(stream); }
  static sim::Event* known(uintptr_t event) { return reinterpret_cast<sim::Event*>(event); }
};

}  // namespace

std::vector<std::string> device_platforms() {
  std::vector<std::string> names;
  std::istringstream list(UCM_SIM_PLATFORMS);
  for (std::string name; list >> name;) names.push_back(name);
  return names;
}

std::unique_ptr<DeviceSide> make_side() { return std::make_unique<SimSide>(); }

}  // namespace ucm::test
