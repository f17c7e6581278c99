// SPDX-License-Identifier: Apache-2.0
#include "io/recorder.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/faults.h"
#include "io/files.h"
#include "io/paths.h"
#include "io/power_loss.h"

namespace ucm::io {
namespace {

constexpr unsigned kRecordingLayer = 2;

using Inode = std::pair<uint64_t, uint64_t>;  // device and number

// Mapped memory and what it held when it was last looked at.
struct Region {
  const std::byte* data = nullptr;
  uint64_t node = 0;
  std::vector<std::byte> seen;
};

// Copies memory that other threads store to, word by word as they do.
void copy_shared(const std::byte* from, std::byte* to, size_t bytes) {
  for (size_t i = 0; i + sizeof(uint64_t) <= bytes; i += sizeof(uint64_t)) {
    const uint64_t word =
        __atomic_load_n(reinterpret_cast<const uint64_t*>(from + i), __ATOMIC_RELAXED);
    std::memcpy(to + i, &word, sizeof word);
  }
  const size_t rest = bytes % sizeof(uint64_t);
  std::memcpy(to + bytes - rest, from + bytes - rest, rest);
}

std::pair<std::string, std::string> split(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return {".", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

// All members are guarded by tape_mutex().
class Tape final : public WriteRecording {
 public:
  static Result<std::unique_ptr<WriteRecording>> start(const std::string& folder);
  ~Tape() override;
  uint64_t changes() override;
  Status rebuild(const PowerLoss& loss, const std::string& to) override;

  Result<uint64_t> take_in(const std::string& path, bool is_folder);
  uint64_t node_of(const struct stat& found) const {
    const auto node = inodes_.find({found.st_dev, found.st_ino});
    return node == inodes_.end() ? 0 : node->second;
  }
  uint64_t node_of_fd(int fd) const {
    struct stat found;
    return ::fstat(fd, &found) == 0 ? node_of(found) : 0;
  }
  uint64_t node_of_path(const std::string& path) const {
    struct stat found;
    return ::stat(path.c_str(), &found) == 0 ? node_of(found) : 0;
  }
  void catch_up();
  Change& add(Change::Kind kind, uint64_t node) {
    changes_.push_back({});
    changes_.back().kind = kind;
    changes_.back().node = node;
    return changes_.back();
  }
  void name_node(const std::string& path);
  void drop_name(const std::string& path);

  Nodes start_;
  std::deque<Change> changes_;
  std::map<Inode, uint64_t> inodes_;
  std::vector<Region> regions_;
  uint64_t last_node_ = 0;
};

std::mutex& tape_mutex() {
  static std::mutex* const kMutex = new std::mutex;
  return *kMutex;
}
Tape* current = nullptr;

// A file or a folder with all below it; answers its node.
Result<uint64_t> Tape::take_in(const std::string& path, bool is_folder) {
  UCM_TRY_ASSIGN(const PathInfo info, path_info(path));
  const auto known = inodes_.find({info.device, info.inode});
  if (known != inodes_.end()) return known->second;
  const uint64_t id = ++last_node_;
  inodes_[{info.device, info.inode}] = id;
  Node node;
  node.is_folder = is_folder;
  if (is_folder) {
    UCM_TRY_ASSIGN(const auto entries, list_folder(path));
    for (const FolderEntry& entry : entries) {
      UCM_TRY_ASSIGN(node.names[entry.name], take_in(join(path, entry.name), entry.is_folder));
    }
  } else {
    UCM_TRY_ASSIGN(const File file, File::open(path, O_RDONLY));
    node.bytes.resize(info.bytes);
    UCM_TRY_ASSIGN(const size_t got, read_at(file, 0, node.bytes.data(), node.bytes.size()));
    node.bytes.resize(got);
  }
  start_[id] = std::move(node);
  return id;
}

Result<std::unique_ptr<WriteRecording>> Tape::start(const std::string& folder) {
  auto tape = std::make_unique<Tape>();
  UCM_TRY_ASSIGN([[maybe_unused]] const uint64_t root, tape->take_in(folder, true));
  const std::lock_guard lock(tape_mutex());
  if (current) return make_status(Code::unavailable, "a recording of writes is under way already");
  current = tape.get();
  detail::switch_layer(kRecordingLayer, true);
  return std::unique_ptr<WriteRecording>(std::move(tape));
}

Tape::~Tape() {
  const std::lock_guard lock(tape_mutex());
  if (current != this) return;
  current = nullptr;
  detail::switch_layer(kRecordingLayer, false);
}

// Notes what has changed in mapped memory since it was looked at last.
void Tape::catch_up() {
  std::vector<std::byte> now;
  for (Region& region : regions_) {
    for (uint64_t at = 0; at < region.seen.size(); at += kSector) {
      const size_t bytes = std::min<size_t>(kSector, region.seen.size() - at);
      now.resize(bytes);
      copy_shared(region.data + at, now.data(), bytes);
      if (std::memcmp(now.data(), region.seen.data() + at, bytes) == 0) continue;
      std::memcpy(region.seen.data() + at, now.data(), bytes);
      Change& change = add(Change::Kind::write, region.node);
      change.offset = at;
      change.bytes = now;
    }
  }
}

void Tape::name_node(const std::string& path) {
  const auto [folder, name] = split(path);
  const uint64_t parent = node_of_path(folder);
  struct stat found;
  if (parent == 0 || ::lstat(path.c_str(), &found) != 0) return;
  Change& change = add(Change::Kind::name, parent);
  change.name = name;
  change.child = node_of(found);
  change.is_folder = S_ISDIR(found.st_mode);
}

void Tape::drop_name(const std::string& path) {
  const auto [folder, name] = split(path);
  const uint64_t parent = node_of_path(folder);
  if (parent != 0) add(Change::Kind::name, parent).name = name;
}

uint64_t Tape::changes() {
  const std::lock_guard lock(tape_mutex());
  catch_up();
  return changes_.size();
}

Status Tape::rebuild(const PowerLoss& loss, const std::string& to) {
  Nodes nodes;
  {
    const std::lock_guard lock(tape_mutex());
    nodes = after_power_loss(start_, changes_, loss);
  }
  return write_nodes(nodes, to);
}

}  // namespace

namespace recorder {

void writes(int fd, uint64_t offset, std::span<const iovec> parts) {
  const std::lock_guard lock(tape_mutex());
  const uint64_t node = current ? current->node_of_fd(fd) : 0;
  if (node == 0) return;
  current->catch_up();
  Change& change = current->add(Change::Kind::write, node);
  change.offset = offset;
  for (const iovec& part : parts) {
    const auto* first = static_cast<const std::byte*>(part.iov_base);
    change.bytes.insert(change.bytes.end(), first, first + part.iov_len);
  }
}

void resizes(int fd, uint64_t bytes, bool grow_only) {
  const std::lock_guard lock(tape_mutex());
  const uint64_t node = current ? current->node_of_fd(fd) : 0;
  if (node == 0) return;
  current->catch_up();
  current->add(grow_only ? Change::Kind::grow : Change::Kind::resize, node).offset = bytes;
}

uint64_t sync_begins() {
  const std::lock_guard lock(tape_mutex());
  if (!current) return 0;
  current->catch_up();
  return current->changes_.size();
}

void synced(int fd, uint64_t before, uint64_t offset, uint64_t bytes) {
  const std::lock_guard lock(tape_mutex());
  const uint64_t node = current ? current->node_of_fd(fd) : 0;
  if (node == 0) return;
  current->catch_up();
  Change& change = current->add(Change::Kind::sync, node);
  change.until = before;
  change.offset = offset;
  change.length = bytes;
}

std::unique_lock<std::mutex> name_change() { return std::unique_lock(tape_mutex()); }

void made(const std::string& path) {
  struct stat found;
  if (!current || ::lstat(path.c_str(), &found) != 0) return;
  if (current->node_of_path(split(path).first) == 0) return;
  current->catch_up();
  // The number may have belonged to a file that is gone.
  current->inodes_[{found.st_dev, found.st_ino}] = ++current->last_node_;
  current->name_node(path);
}

void renamed(const std::string& from, const std::string& to) {
  if (!current) return;
  current->catch_up();
  const auto [folder, name] = split(from);
  const size_t before = current->changes_.size();
  current->name_node(to);
  if (current->changes_.size() == before) return;
  current->changes_.back().from = current->node_of_path(folder);
  current->changes_.back().from_name = name;
}

void linked(const std::string& to) {
  if (!current) return;
  current->catch_up();
  current->name_node(to);
}

void removed(const std::string& path) {
  if (!current) return;
  current->catch_up();
  current->drop_name(path);
}

void mapped(int fd, const std::byte* data, uint64_t bytes) {
  const std::lock_guard lock(tape_mutex());
  const uint64_t node = current ? current->node_of_fd(fd) : 0;
  if (node == 0) return;
  Region region{data, node, std::vector<std::byte>(bytes)};
  copy_shared(data, region.seen.data(), bytes);
  current->regions_.push_back(std::move(region));
}

void unmapped(const std::byte* data) {
  const std::lock_guard lock(tape_mutex());
  if (!current) return;
  current->catch_up();
  std::erase_if(current->regions_, [&](const Region& region) { return region.data == data; });
}

}  // namespace recorder
}  // namespace ucm::io

namespace ucm {

Result<std::unique_ptr<WriteRecording>> WriteRecording::start(const std::string& folder) {
  return io::Tape::start(folder);
}

}  // namespace ucm
