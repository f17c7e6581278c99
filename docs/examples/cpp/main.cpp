// SPDX-License-Identifier: Apache-2.0
// Keeps 16 blocks of a two-layer model in Cache|Disk, closes the store, opens it again and loads
// them from the disk. Usage: ucm_example FOLDER
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "ucm/pipeline.h"

namespace {

constexpr size_t kBlocks = 16;
constexpr uint32_t kLayers = 2;
constexpr size_t kPieceBytes = 64 * 1024;  // the K or the V part of one layer of one block
constexpr std::chrono::seconds kTimeout{30};

using Memory = std::vector<std::vector<char>>;  // stands for the engine's KV pages

// An engine names content by hashing tokens; here the number of the block will do.
std::vector<ucm::BlockKey> make_keys() {
  std::vector<ucm::BlockKey> keys;
  for (uint64_t i = 0; i < kBlocks; ++i) {
    keys.push_back({i * 0x9E3779B97F4A7C15ull + 1, ~i * 0xD6E8FEB86659FD93ull});
  }
  return keys;
}

ucm::PipelineConfig make_config(const char* folder) {
  ucm::PipelineConfig config;
  config.spec = "Cache|Disk";
  config.options = {{"storage_backends", std::vector<std::string>{folder}},
                    {"buffer_number", int64_t{32}},
                    {"capacity_bytes", int64_t{1} << 30}};
  config.layout = ucm::BlockLayout::make({kPieceBytes, kPieceBytes}, kLayers, 42).value();
  return config;
}

// Moves one layer of all blocks and waits until it is done.
ucm::Status move_layer(ucm::Store& store, ucm::Direction direction, uint32_t layer,
                       Memory* memory) {
  const std::vector<ucm::BlockKey> keys = make_keys();
  const std::vector<uint32_t> shards(kBlocks, layer);
  std::vector<uintptr_t> addresses;
  for (std::vector<char>& piece : *memory) {
    addresses.push_back(reinterpret_cast<uintptr_t>(piece.data()));
  }
  ucm::Batch batch;
  batch.keys = keys;
  batch.shards = shards;
  batch.addresses = addresses;
  const ucm::TaskPtr task =
      direction == ucm::Direction::dump ? store.dump(batch) : store.load(batch);
  return task->wait(kTimeout);
}

ucm::Status write_blocks(const char* folder) {
  UCM_TRY_ASSIGN(const auto store, ucm::Pipeline::open(make_config(folder)));
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Memory memory(kBlocks * 2, std::vector<char>(kPieceBytes, static_cast<char>('a' + layer)));
    UCM_TRY(move_layer(*store, ucm::Direction::dump, layer, &memory));
  }
  return {};
}

ucm::Status read_blocks(const char* folder) {
  UCM_TRY_ASSIGN(const auto store, ucm::Pipeline::open(make_config(folder)));
  UCM_TRY_ASSIGN(const size_t hits, store->lookup_prefix(make_keys()));
  std::printf("%zu of %zu blocks found after reopening\n", hits, kBlocks);
  size_t wrong = 0;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Memory memory(kBlocks * 2, std::vector<char>(kPieceBytes));
    UCM_TRY(move_layer(*store, ucm::Direction::load, layer, &memory));
    const std::vector<char> expected(kPieceBytes, static_cast<char>('a' + layer));
    for (const std::vector<char>& piece : memory) wrong += piece != expected;
  }
  std::printf("%zu pieces loaded, %zu wrong\n", kBlocks * kLayers * 2, wrong);
  if (wrong != 0) return ucm::make_status(ucm::Code::corruption, "example: wrong bytes");
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  ucm::Status status = write_blocks(argv[1]);
  if (status.ok()) status = read_blocks(argv[1]);
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.to_string().c_str());
    return 1;
  }
  return 0;
}
