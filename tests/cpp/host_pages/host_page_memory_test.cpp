// SPDX-License-Identifier: Apache-2.0
// On which pages the memory lies, and near which node. Expectations follow from what the machine
// has at this moment: `./test.sh huge_pages` reserves huge pages first.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "memory/region.h"
#include "ucm/host_pages.h"

namespace ucm {
namespace {

constexpr size_t kMiB = size_t{1} << 20;
constexpr int kPreferred = 1;
constexpr int kInterleave = 3;

size_t from_meminfo(const std::string& name) {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    size_t number = 0;
    if (std::sscanf(line.c_str(), (name + ": %zu").c_str(), &number) == 1) return number;
  }
  return 0;
}
size_t huge_bytes() { return from_meminfo("Hugepagesize") << 10; }
// Reserved huge pages that nobody has asked for.
size_t huge_pages_left() { return from_meminfo("HugePages_Free") - from_meminfo("HugePages_Rsvd"); }
// The word in brackets of a switch of the kernel.
std::string chosen(const std::string& name) {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/" + name);
  std::string text;
  std::getline(file, text);
  const size_t open = text.find('[');
  return open == std::string::npos ? "never" : text.substr(open + 1, text.find(']') - open - 1);
}
size_t shared_fallback() {
  const std::string word = chosen("shmem_enabled");
  return word == "never" || word == "deny" ? static_cast<size_t>(::getpagesize()) : 2 * kMiB;
}
size_t private_fallback() {
  return chosen("enabled") == "never" ? static_cast<size_t>(::getpagesize()) : 2 * kMiB;
}

HostPagesOptions wanted_pages(const std::string& name, size_t page_bytes) {
  HostPagesOptions out;
  out.name = "test-memory-" + std::to_string(::getpid()) + "-" + name;
  out.pages = 3;
  out.page_bytes = page_bytes;
  return out;
}

// The host, said to be near a node.
class NearNode final : public Device {
 public:
  explicit NearNode(int node) : node_(node), host_(open_device("cpu", 0).value()) {}
  const char* platform() const override { return host_->platform(); }
  int id() const override { return 0; }
  bool asynchronous() const override { return false; }
  Status bind_thread() override { return {}; }
  Result<StreamHandle> make_stream(Direction d) override { return host_->make_stream(d); }
  void destroy_stream(StreamHandle stream) override { host_->destroy_stream(stream); }
  Status wait_event(StreamHandle s, uintptr_t e) override { return host_->wait_event(s, e); }
  Status copy(StreamHandle s, Direction d, std::span<const CopyPiece> p) override {
    return host_->copy(s, d, p);
  }
  Status synchronize(StreamHandle stream) override { return host_->synchronize(stream); }
  std::vector<std::string> copy_methods() const override { return host_->copy_methods(); }
  Status use_method(StreamHandle s, const std::string& name) override {
    return host_->use_method(s, name);
  }
  Result<EventHandle> make_event() override { return host_->make_event(); }
  void destroy_event(EventHandle event) override { host_->destroy_event(event); }
  Status record(EventHandle e, StreamHandle s) override { return host_->record(e, s); }
  Status wait_host(EventHandle event) override { return host_->wait_host(event); }
  Status wait_engine(uintptr_t s, EventHandle e) override { return host_->wait_engine(s, e); }
  Status register_host(void* a, size_t b) override { return host_->register_host(a, b); }
  Status unregister_host(void* address) override { return host_->unregister_host(address); }
  Result<void*> alloc_memory(size_t bytes) override { return host_->alloc_memory(bytes); }
  void free_memory(void* memory) override { host_->free_memory(memory); }
  int numa_node() const override { return node_; }

 private:
  const int node_;
  const std::shared_ptr<Device> host_;
};

struct Placement {
  int policy = -1;
  unsigned long nodes = 0;
};
// Of the memory at an address; policy -1 where the kernel or a container does not tell.
Placement placement_of(const void* address) {
  constexpr unsigned long kByAddress = 2;
  constexpr size_t kWords = 16;
  Placement out;
  unsigned long nodes[kWords] = {};
  if (::syscall(SYS_get_mempolicy, &out.policy, nodes, kWords * 64, address, kByAddress) != 0) {
    return {};
  }
  out.nodes = nodes[0];
  return out;
}
bool placement_works() {
  const unsigned long first = 1;
  void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const bool set = ::syscall(SYS_mbind, page, 4096, kPreferred, &first, 64ul, 0ul) == 0;
  const bool told = placement_of(page).policy == kPreferred;
  ::munmap(page, 4096);
  return set && told;
}

TEST(PageMemory, lies_on_reserved_pages_while_there_are_enough_and_gives_them_back) {
  const size_t before = huge_pages_left();
  const size_t bytes = 2 * huge_bytes() + 4096;
  constexpr size_t kNeeded = 7;  // six for three pages, and one for what is over
  const bool enough = before >= kNeeded;
  {
    auto made = HostPages::create(wanted_pages("reserved", bytes));
    ASSERT_TRUE(made.ok()) << made.status().message();
    HostPages& pages = *made.value();
    EXPECT_EQ(pages.memory_page_bytes(), enough ? huge_bytes() : shared_fallback());
    EXPECT_EQ(before - huge_pages_left(), enough ? kNeeded : 0);
    std::fill_n(pages.data(), 3 * bytes, std::byte{7});
    auto other = HostPages::attach(wanted_pages("reserved", bytes));
    ASSERT_TRUE(other.ok()) << other.status().message();
    EXPECT_EQ(other.value()->memory_page_bytes(), pages.memory_page_bytes());
    EXPECT_EQ(other.value()->data()[3 * bytes - 1], std::byte{7});
    EXPECT_EQ(before - huge_pages_left(), enough ? kNeeded : 0) << "a second mapping takes no more";
  }
  EXPECT_EQ(huge_pages_left(), before);
}

TEST(PageMemory, takes_no_reserved_page_when_they_are_too_few) {
  const size_t before = huge_pages_left();
  const size_t bytes = (before + 1) * huge_bytes();
  auto made = HostPages::create(wanted_pages("short", bytes));
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(made.value()->memory_page_bytes(), shared_fallback());
  EXPECT_EQ(huge_pages_left(), before);
  made.value()->data()[3 * bytes - 1] = std::byte{1};
  EXPECT_EQ(made.value()->data()[3 * bytes - 1], std::byte{1});
}

TEST(PageMemory, is_plain_where_huge_pages_are_not_wanted) {
  const size_t before = huge_pages_left();
  HostPagesOptions plain = wanted_pages("plain", 2 * kMiB);
  plain.huge_pages = false;
  const auto made = HostPages::create(plain);
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_EQ(made.value()->memory_page_bytes(), static_cast<size_t>(::getpagesize()));
  EXPECT_EQ(huge_pages_left(), before);
}

TEST(PageMemory, of_one_process_has_the_same_steps) {
  const size_t before = huge_pages_left();
  memory::RegionOptions wanted;
  wanted.bytes = 3 * huge_bytes();
  {
    const auto region = memory::Region::make(wanted);
    ASSERT_TRUE(region.ok()) << region.status().message();
    const bool enough = before >= 3;
    EXPECT_EQ(region.value()->page_bytes(), enough ? huge_bytes() : private_fallback());
    EXPECT_EQ(before - huge_pages_left(), enough ? 3u : 0u);
    std::fill_n(region.value()->data(), wanted.bytes, std::byte{9});
  }
  EXPECT_EQ(huge_pages_left(), before);
}

TEST(PageMemory, is_near_the_device_that_registers_it) {
  HostPagesOptions near = wanted_pages("near", kMiB);
  near.device = std::make_shared<NearNode>(0);
  const auto made = HostPages::create(near);
  ASSERT_TRUE(made.ok()) << made.status().message();
  const Placement placed = placement_of(made.value()->data());
  EXPECT_EQ(placed.policy == kPreferred && placed.nodes == 1, placement_works());
}

TEST(PageMemory, that_is_spread_over_the_nodes_stays_so_whoever_registers_it) {
  HostPagesOptions spread = wanted_pages("spread", kMiB);
  spread.numa_interleave = true;
  spread.device = std::make_shared<NearNode>(0);
  const auto made = HostPages::create(spread);
  ASSERT_TRUE(made.ok()) << made.status().message();
  HostPagesOptions rank = wanted_pages("spread", kMiB);
  rank.device = std::make_shared<NearNode>(0);
  const auto joined = HostPages::attach(rank);
  ASSERT_TRUE(joined.ok()) << joined.status().message();
  for (const auto* pages : {&made, &joined}) {
    const Placement placed = placement_of(pages->value()->data());
    EXPECT_EQ(placed.policy == kInterleave && (placed.nodes & 1) != 0, placement_works());
  }
}

TEST(PageMemory, near_a_node_that_does_not_exist_is_left_to_the_kernel) {
  HostPagesOptions nowhere = wanted_pages("nowhere", kMiB);
  nowhere.device = std::make_shared<NearNode>(63);
  const auto made = HostPages::create(nowhere);
  ASSERT_TRUE(made.ok()) << made.status().message();
  EXPECT_NE(placement_of(made.value()->data()).policy, kPreferred);
  made.value()->data()[0] = std::byte{1};
  EXPECT_EQ(made.value()->data()[0], std::byte{1});
}

}  // namespace
}  // namespace ucm
