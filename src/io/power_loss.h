// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "ucm/fault_rules.h"

namespace ucm::io {

// One step of a recording. Files and folders are nodes, whatever they are called.
struct Change {
  enum class Kind : uint8_t { write, resize, grow, name, sync };
  Kind kind = Kind::write;
  uint64_t node = 0;             // what changes; name: the folder that has the name afterwards
  uint64_t offset = 0;           // write, sync: the first byte; resize, grow: the length
  std::vector<std::byte> bytes;  // write
  uint64_t length = 0;           // sync: how many bytes from the offset on
  uint64_t until = 0;            // sync: changes before this one are safe
  std::string name;              // name: what it is called
  uint64_t child = 0;            // name: the node of that name, 0 = the name goes
  uint64_t from = 0;             // name: the folder that loses `from_name` with the same step
  std::string from_name;
  bool is_folder = false;  // name: of the child
};

struct Node {
  bool is_folder = false;
  std::vector<std::byte> bytes;
  std::map<std::string, uint64_t> names;
};
using Nodes = std::map<uint64_t, Node>;

inline constexpr uint64_t kRootNode = 1;
// What a disk writes as a whole or not at all.
inline constexpr uint64_t kSector = 512;

// What a disk that held `before` holds after the loss.
Nodes after_power_loss(Nodes before, const std::deque<Change>& changes, const PowerLoss& loss);
// Makes files and folders of it.
Status write_nodes(const Nodes& nodes, const std::string& to);

}  // namespace ucm::io
