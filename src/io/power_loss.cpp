// SPDX-License-Identifier: Apache-2.0
#include "io/power_loss.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "io/files.h"
#include "io/paths.h"

namespace ucm::io {
namespace {

// How much of what was not synced is on the disk, one way per loss. All of them have happened: a
// disk with no cache, one with a large cache, a file system that orders its steps, one that does
// not, and one whose folders are as unordered as its data.
enum class Reach : uint8_t { nothing, everything, prefix, sectors, names_as_well };

class Aftermath {
 public:
  Aftermath(Nodes nodes, const PowerLoss& loss) : nodes_(std::move(nodes)), random_(loss.seed) {
    static constexpr Reach kReaches[] = {Reach::nothing, Reach::everything, Reach::prefix,
                                         Reach::sectors, Reach::names_as_well};
    static constexpr double kChances[] = {0.05, 0.3, 0.5, 0.7, 0.95};
    reach_ = loss.process_only ? Reach::everything : kReaches[below(5)];
    chance_ = kChances[below(5)];
  }

  void play(const std::deque<Change>& changes, uint64_t point) {
    const uint64_t count = std::min<uint64_t>(point, changes.size());
    for (uint64_t i = 0; i < count; ++i) {
      const Change& change = changes[i];
      if (change.kind == Change::Kind::sync) {
        make_safe(change);
      } else {
        pending_[change.node].push_back({i, &change});
      }
    }
    // With an ordered disk the order holds between files as well.
    const uint64_t reached = reach_ == Reach::prefix ? below(count + 1) : count;
    for (auto& [node, steps] : pending_) settle(steps, reached);
  }

  Nodes take() { return std::move(nodes_); }

 private:
  struct Step {
    uint64_t index;
    const Change* change;
  };

  uint64_t below(uint64_t limit) { return random_() % limit; }
  bool lucky() { return static_cast<double>(random_() >> 11) * 0x1p-53 < chance_; }

  void make_safe(const Change& sync) {
    std::vector<Step>& steps = pending_[sync.node];
    std::erase_if(steps, [&](const Step& step) {
      if (step.index >= sync.until || !covers(sync, *step.change)) return false;
      apply(*step.change);
      return true;
    });
  }

  static bool covers(const Change& sync, const Change& change) {
    return change.kind != Change::Kind::write ||
           (change.offset >= sync.offset &&
            change.offset + change.bytes.size() - sync.offset <= sync.length);
  }

  void settle(const std::vector<Step>& steps, uint64_t reached) {
    const size_t names_reached = steps.empty() ? 0 : below(steps.size() + 1);
    for (size_t i = 0; i < steps.size(); ++i) {
      const Change& change = *steps[i].change;
      switch (reach_) {
        case Reach::nothing:
          break;
        case Reach::everything:
          apply(change);
          break;
        case Reach::prefix:
          if (steps[i].index + 1 < reached) apply(change);
          // The last step is on its way.
          if (steps[i].index + 1 == reached) apply_in_part(change);
          break;
        case Reach::sectors:
          if (change.kind != Change::Kind::name) apply_in_part(change);
          if (change.kind == Change::Kind::name && i < names_reached) apply(change);
          break;
        case Reach::names_as_well:
          apply_in_part(change);
          break;
      }
    }
  }

  void apply(const Change& change) {
    Node& node = nodes_[change.node];
    switch (change.kind) {
      case Change::Kind::write:
        put(&node, change, 0, change.bytes.size());
        break;
      case Change::Kind::resize:
        node.bytes.resize(change.offset);
        break;
      case Change::Kind::grow:
        node.bytes.resize(std::max<uint64_t>(node.bytes.size(), change.offset));
        break;
      default:
        rename(change);
    }
  }

  // Any of its sectors, or the whole step when it has none.
  void apply_in_part(const Change& change) {
    if (change.kind != Change::Kind::write) {
      if (lucky()) apply(change);
      return;
    }
    const uint64_t end = change.offset + change.bytes.size();
    for (uint64_t at = change.offset; at < end;) {
      const uint64_t next = std::min(end, at / kSector * kSector + kSector);
      if (lucky()) put(&nodes_[change.node], change, at - change.offset, next - at);
      at = next;
    }
  }

  static void put(Node* node, const Change& change, uint64_t skip, uint64_t count) {
    const uint64_t end = change.offset + skip + count;
    if (node->bytes.size() < end) node->bytes.resize(end);
    std::memcpy(node->bytes.data() + change.offset + skip, change.bytes.data() + skip, count);
  }

  void rename(const Change& change) {
    if (change.from != 0) {
      auto& names = nodes_[change.from].names;
      const auto old = names.find(change.from_name);
      if (old != names.end() && old->second == change.child) names.erase(old);
    }
    auto& names = nodes_[change.node].names;
    if (change.child == 0) {
      names.erase(change.name);
    } else {
      names[change.name] = change.child;
    }
  }

  Nodes nodes_;
  std::mt19937_64 random_;
  Reach reach_ = Reach::everything;
  double chance_ = 1;
  std::map<uint64_t, std::vector<Step>> pending_;
};

Status write_folder(const Nodes& nodes, uint64_t id, const std::string& to,
                    std::map<uint64_t, std::string>* written) {
  UCM_TRY(make_folders(to));
  for (const auto& [name, child] : nodes.at(id).names) {
    const Node& node = nodes.at(child);
    const std::string path = join(to, name);
    if (node.is_folder) {
      UCM_TRY(write_folder(nodes, child, path, written));
    } else if (written->contains(child)) {
      UCM_TRY_ASSIGN([[maybe_unused]] const bool fresh, link_file(written->at(child), path));
    } else {
      UCM_TRY_ASSIGN(const File file, File::open(path, O_WRONLY | O_CREAT | O_EXCL));
      UCM_TRY(write_at(file, 0, node.bytes.data(), node.bytes.size()));
      written->emplace(child, path);
    }
  }
  return {};
}

}  // namespace

Nodes after_power_loss(Nodes before, const std::deque<Change>& changes, const PowerLoss& loss) {
  // Nodes that came later exist from the beginning: without a name nobody sees them.
  for (const Change& change : changes) {
    if (change.child != 0) before[change.child].is_folder |= change.is_folder;
  }
  Aftermath disk(std::move(before), loss);
  disk.play(changes, loss.point);
  return disk.take();
}

Status write_nodes(const Nodes& nodes, const std::string& to) {
  std::map<uint64_t, std::string> written;
  return write_folder(nodes, kRootNode, to, &written);
}

}  // namespace ucm::io
