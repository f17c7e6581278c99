// SPDX-License-Identifier: Apache-2.0
#include "fuzz_targets.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/checksum.h"
#include "io/aligned_buffer.h"
#include "io/flat_json.h"
#include "io/paths.h"
#include "memory/shared_segment.h"
#include "pages/page_index.h"
#include "processes.h"
#include "stages/posix/posix_block_file.h"
#include "stages/posix/posix_calls.h"
#include "stages/posix/posix_lease.h"
#include "stages/posix/posix_root.h"
#include "test_blocks.h"
#include "ucm/pages.h"

namespace ucm::test {
namespace {

constexpr size_t kPayload = 4096 + 100;
constexpr uint64_t kSlots = 16;
constexpr size_t kCheckAt = kAlign - sizeof(uint64_t);  // of a trailer

Bytes to_bytes(std::string_view text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}
std::string_view to_text(std::span<const std::byte> input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}
void write_file(const std::string& path, std::span<const std::byte> input) {
  // A fresh file: some file systems flush one that was truncated and written again.
  static_cast<void>(io::unlink_file(path));
  const auto file = io::File::open(path, O_WRONLY | O_CREAT | O_EXCL);
  promise(file.ok() && io::write_at(file.value(), 0, input.data(), input.size()).ok(),
          "the scratch folder can be written");
}
Bytes read_file(const std::string& path) {
  const auto text = io::read_small_file(path, 64 << 20);
  promise(text.ok(), "the scratch folder can be read");
  return to_bytes(text.value());
}
void leave_alone(Bytes*, std::mt19937_64*) {}

BlockLayout layout() { return BlockLayout::make({kPayload}, 1, 7).value(); }

std::vector<std::byte> payload_of(const BlockKey& key) {
  std::vector<std::byte> payload(align_up(kPayload));
  for (size_t i = 0; i < kPayload; ++i) payload[i] = content(key, i);
  return payload;
}

// --- trailers of the Posix stage ---

std::vector<Bytes> trailer_corpus() {
  std::vector<Bytes> corpus;
  for (uint64_t i = 0; i < 4; ++i) {
    posix::Trailer trailer;
    trailer.key = make_key(i);
    trailer.layout_id = i;
    trailer.payload_bytes = kPayload + i;
    trailer.rank = static_cast<uint32_t>(i);
    trailer.ranks = 4;
    trailer.digest = {i, i * 3};
    trailer.written_ns = static_cast<int64_t>(i * 1000000007);
    corpus.emplace_back(posix::kTrailerBytes);
    posix::encode_trailer(trailer, corpus.back().data());
  }
  return corpus;
}

void repair_trailer(std::byte* page) {
  const uint64_t check = base::digest_64(page, kCheckAt, 0);
  std::memcpy(page + kCheckAt, &check, sizeof check);
}

void repair_last_page(Bytes* input, std::mt19937_64*) {
  if (input->size() >= kAlign) repair_trailer(input->data() + input->size() - kAlign);
}

void run_trailer(std::span<const std::byte> input) {
  Bytes page(input.begin(), input.end());
  page.resize(posix::kTrailerBytes);
  posix::Trailer trailer;
  if (posix::decode_trailer(page.data(), &trailer)) return;
  promise(trailer.payload_bytes > 0 && trailer.rank < trailer.ranks, "an accepted trailer is sane");
  Bytes again(posix::kTrailerBytes);
  posix::encode_trailer(trailer, again.data());
  promise(again == page, "an accepted trailer is what the writer makes of its fields");
}

// --- the last page of a file that small blocks of the Posix stage share ---

std::vector<Bytes> pack_corpus() {
  std::vector<Bytes> corpus;
  for (const size_t blocks : {size_t{2}, size_t{3}, posix::kMaxPackBlocks}) {
    posix::PackPage pack;
    pack.layout_id = 7;
    pack.payload_bytes = kPayload;
    pack.written_ns = 1000000007;
    for (uint64_t i = 0; i < blocks; ++i) pack.blocks.push_back({make_key(i), {i, i * 3}});
    corpus.emplace_back(posix::kTrailerBytes);
    posix::encode_pack(pack, corpus.back().data());
  }
  return corpus;
}

void run_pack(std::span<const std::byte> input) {
  Bytes page(input.begin(), input.end());
  page.resize(posix::kTrailerBytes);
  posix::PackPage pack;
  if (posix::decode_pack(page.data(), &pack)) return;
  promise(pack.blocks.size() >= 2 && pack.blocks.size() <= posix::kMaxPackBlocks &&
              pack.payload_bytes > 0,
          "an accepted page of a pack is sane");
  Bytes again(posix::kTrailerBytes);
  posix::encode_pack(pack, again.data());
  promise(again == page, "an accepted page of a pack is what the writer makes of its fields");
}

// --- the file that says who collects in a store of the Posix stage ---

std::string holder(const std::string& host, pid_t pid) {
  return host + " " + std::to_string(pid) + "\n";
}

// A process that was there and is no more: its number is not given again soon.
pid_t ended_process() {
  static const pid_t kEnded = [] {
    Child child([] { return 0; });
    const pid_t pid = child.pid();
    promise(child.wait() == 0, "a process can be started");
    return pid;
  }();
  return kEnded;
}

std::vector<Bytes> lease_corpus() {
  const std::string here = posix::host_name();
  return {to_bytes(holder(here, ::getpid())), to_bytes(holder(here, ended_process())),
          to_bytes(holder("another-host", ended_process()))};
}

void run_lease(std::span<const std::byte> input) {
  const std::string root = io::join(fuzz_folder(), "lease");
  const std::string path = io::join(root, ".collector");
  promise(io::make_folders(root).ok(), "a folder can be made");
  write_file(path, input);
  const std::string here = posix::host_name();
  {
    posix::CollectorLease lease(root);
    const auto ours = lease.acquire(0600);
    promise(ours.ok(), "a damaged lease is no error");
    const bool kept = !to_text(input).starts_with(here + " ") ||
                      to_text(input).starts_with(holder(here, ::getpid()));
    promise(!ours.value() || !kept, "nobody's lease is taken who may be there");
    promise(ours.value() || read_file(path) == Bytes(input.begin(), input.end()),
            "a lease that was not taken stays as it is");
    promise(!ours.value() || lease.renew(), "a lease that was taken is held");
    promise(ours.value() || to_text(input) != holder(here, ended_process()),
            "the lease of a process that has ended is taken");
  }
  static_cast<void>(io::unlink_file(path));
}

// --- the file by which processes find the pool that they share ---

constexpr size_t kPoolBytes = 4096;

// A pool that is there, met in a file of its own.
const std::string& pool_path() {
  static const std::string kPath = io::join(fuzz_folder(), "pool");
  static const auto kPool = memory::SharedSegment::join(
      kPath, kPoolBytes, [](std::byte* data) { data[0] = std::byte{7}; });
  promise(kPool.ok(), "a pool can be made");
  return kPath;
}

std::vector<Bytes> meeting_corpus() {
  const std::string text(to_text(read_file(pool_path())));
  const std::string ended = std::to_string(ended_process()) + " 5\n";
  const std::string other = std::to_string(::getpid()) + " 0\n";
  const size_t lines = text.find('\n') + 1;
  return {to_bytes(text), to_bytes(text.substr(0, lines) + ended + other + text.substr(lines)),
          to_bytes(std::string(text).replace(0, 8, "01234567"))};
}

void run_meeting(std::span<const std::byte> input) {
  const std::string path = io::join(fuzz_folder(), "meeting");
  write_file(path, input);
  {
    const auto meeting = memory::MeetingFile::enter(path, /*make=*/false);
    promise(meeting.ok(), "a damaged meeting file can be read");
  }
  const auto leads_somewhere = [](const auto& pool) {
    return pool.value()->bytes() == kPoolBytes && pool.value()->data()[0] == std::byte{7};
  };
  if (const auto found = memory::SharedSegment::find(path); found.ok()) {
    promise(leads_somewhere(found), "what is found is a pool");
  } else {
    promise(found.status().code() == Code::not_found, "a damaged meeting file leads nowhere");
    write_file(path, input);
  }
  {
    const auto joined = memory::SharedSegment::join(
        path, kPoolBytes, [](std::byte* data) { data[0] = std::byte{7}; });
    promise(joined.ok() && leads_somewhere(joined), "whatever stands there, a pool is met");
    const auto twin = memory::SharedSegment::find(path);
    promise(twin.ok() && leads_somewhere(twin), "the next one finds it");
  }
  promise(read_file(pool_path()).size() > 0, "the other meeting is left alone");
}

// --- whole block files of the Posix stage ---

std::vector<Bytes> block_file_corpus() {
  const BlockKey key = make_key(1);
  const auto payload = payload_of(key);
  const auto image = posix::BlockImage::make(key, layout(), payload.data(), nullptr, 1);
  const std::string path = io::join(fuzz_folder(), "block");
  {
    const auto file = io::File::open(path, O_WRONLY | O_CREAT | O_TRUNC);
    promise(file.ok() && image.value().write(file.value()).ok(), "a block can be written");
  }
  std::vector<Bytes> corpus = {read_file(path)};
  // The same block in a file that three of them share.
  auto pack = posix::PackImage::make(layout(), 1, 3);
  std::vector<std::vector<std::byte>> payloads;
  for (uint64_t i = 0; i < 3; ++i) payloads.push_back(payload_of(make_key(i)));
  for (uint64_t i = 0; i < 3; ++i) {
    const std::byte* bytes = payloads[i].data();
    pack.value().add(make_key(i), base::digest_128(bytes, kPayload, posix::kPayloadSeed), bytes);
  }
  pack.value().seal();
  {
    const auto file = io::File::open(path, O_WRONLY | O_CREAT | O_TRUNC);
    promise(file.ok() && pack.value().write(file.value()).ok(), "a pack can be written");
  }
  corpus.push_back(read_file(path));
  return corpus;
}

void run_block_file(std::span<const std::byte> input) {
  const BlockKey key = make_key(1);
  const std::string path = io::join(fuzz_folder(), "block");
  write_file(path, input);
  const io::AlignedBuffer buffer = io::AlignedBuffer::make(posix::file_bytes(kPayload));
  const auto read = posix::read_block_file(path, key, layout(), false, true, buffer.data());
  promise(read.ok(), "a damaged block is no I/O error");
  if (read.value().finding == posix::Finding::sound) {
    const posix::Trailer& trailer = read.value().trailer;
    promise(trailer.key == key && trailer.layout_id == 7 && trailer.payload_bytes == kPayload,
            "a sound block is the one that was asked for");
    promise(base::digest_128(buffer.data(), kPayload, 0) == trailer.digest,
            "a sound block fits its checksum");
  }
  promise(posix::examine_block_file(path, key, BlockLayout()).ok(),
          "a damaged block is no I/O error for who looks at its trailer");
}

// --- FORMAT.json of both stages ---

pages::StoreFormat page_format() {
  pages::StoreFormat format;
  format.uuid = {0x0123456789abcdefull, 0xfedcba9876543210ull};
  format.slot_bytes = align_up(kPayload);
  format.segment_slots = 8;
  format.capacity_slots = kSlots;
  format.layouts = {7};
  return format;
}

std::vector<Bytes> format_corpus() {
  return {to_bytes(pages::format_text(page_format())),
          to_bytes(io::format_flat_json({{"format", std::string("ucm-posix")},
                                         {"version", uint64_t{1}},
                                         {"uuid", std::string("00ff")}}))};
}

void run_format(std::span<const std::byte> input) {
  const auto object = io::parse_flat_json(to_text(input));
  if (object.ok()) {
    const auto again = io::parse_flat_json(io::format_flat_json(object.value()));
    promise(again.ok() && again.value() == object.value(), "JSON that was taken can be given back");
  }
  const auto format = pages::parse_format(to_text(input));
  if (format.ok()) {
    const pages::StoreFormat& f = format.value();
    promise(f.slot_bytes >= kAlign && f.slot_bytes % kAlign == 0 && f.segment_slots > 0 &&
                f.capacity_slots > 0,
            "an accepted description is sane");
    promise(pages::parse_format(pages::format_text(f)).ok(), "an accepted description is stable");
  }
  const std::string folder = io::join(fuzz_folder(), "posix");
  promise(io::make_folders(folder).ok(), "a folder can be made");
  write_file(io::join(folder, posix::kFormatFile), input);
  const Code code = posix::check_format(folder).code();
  promise(code == Code::ok || code == Code::corruption || code == Code::unsupported,
          "a description is taken, damaged or of another version");
}

// --- the index of a page store ---

std::unique_ptr<pages::PageIndex> open_index(const std::string& folder,
                                             pages::Recovered* recovered) {
  auto index = pages::PageIndex::open_writable(
      folder, page_format(), 0600, kSlots, [](uint32_t) { return true; }, recovered);
  promise(index.ok(), "a damaged index does not keep a store closed");
  return std::move(index).value();
}

std::vector<Bytes> index_corpus() {
  const std::string folder = io::join(fuzz_folder(), "index");
  promise(io::remove_tree(folder).ok() && io::make_folders(folder).ok(), "a folder can be made");
  {
    pages::Recovered recovered;
    const auto index = open_index(folder, &recovered);
    for (uint32_t slot = 0; slot < kSlots; slot += 2) {
      pages::IndexEntry entry;
      entry.key = make_key(slot);
      entry.slot = slot;
      entry.length = kPayload;
      entry.layout_id = 7;
      entry.digest = slot;
      entry.written = entry.use = 1 + slot;
      index->publish(entry);
    }
  }
  return {read_file(io::join(folder, pages::kIndexName))};
}

void repair_entries(Bytes* input, std::mt19937_64* random) {
  const uint64_t seed = page_format().seed();
  const pages::LayoutList layouts = page_format().layouts;
  constexpr size_t kHeader = pages::PageIndex::kHeaderBytes;
  pages::PackedEntry packed;
  for (size_t at = kHeader; at + sizeof packed <= input->size(); at += sizeof packed) {
    if ((*random)() % 2 == 0) continue;
    std::memcpy(&packed, input->data() + at, sizeof packed);
    if (packed.written() == 0) continue;
    const size_t number = packed.layout();
    const uint64_t id = number == 0 || number > layouts.size() ? 0 : layouts[number - 1];
    const auto slot = static_cast<uint32_t>((at - kHeader) / sizeof packed);
    packed = pages::PackedEntry::pack(
        {packed.key(), slot, packed.length(), id, packed.words[2], packed.written(), packed.use()},
        packed.layout(), seed);
    std::memcpy(input->data() + at, &packed, sizeof packed);
  }
}

void run_index(std::span<const std::byte> input) {
  const std::string folder = io::join(fuzz_folder(), "index");
  promise(io::make_folders(folder).ok(), "a folder can be made");
  write_file(io::join(folder, pages::kIndexName), input);
  static_cast<void>(pages::PageIndex::open_readable(folder, page_format()));
  pages::Recovered recovered;
  const auto index = open_index(folder, &recovered);
  promise(recovered.slots.size() <= kSlots, "no more blocks than slots");
  for (const uint32_t slot : recovered.slots) {
    pages::IndexEntry entry;
    promise(slot < kSlots && index->entry(slot, &entry), "a recovered slot holds a valid entry");
    pages::IndexEntry found;
    promise(index->find(entry.key, &found) && found.slot == slot, "a recovered block is found");
  }
  const auto reader = pages::PageIndex::open_readable(folder, page_format());
  promise(reader.ok(), "a repaired index can be read");
  std::array<BlockKey, kSlots> keys;
  std::array<uint8_t, kSlots> present;
  for (uint64_t i = 0; i < kSlots; ++i) keys[i] = make_key(i);
  reader.value()->lookup(keys, {7, kPayload}, present);
}

// --- all files of a page store; the first byte of an input says which one it is ---

constexpr std::array<const char*, 4> kStoreFiles = {"FORMAT.json", "index", "table", "seg-00000"};

PageStoreOptions store_options(const std::string& folder) {
  PageStoreOptions options;
  options.path = folder;
  options.slot_bytes = align_up(kPayload);
  options.capacity_bytes = kSlots * options.slot_bytes;
  options.segment_bytes = 8 * options.slot_bytes;
  options.use_io_uring = false;
  options.io_threads = 1;
  options.io_direct = false;
  return options;
}

// Dumps or loads blocks 0 to 5 and waits; answers which rows went well.
std::array<bool, 6> move_blocks(PageStore* store, bool dump) {
  std::array<std::vector<std::byte>, 6> memory;
  std::vector<PageRow> rows;
  for (uint32_t i = 0; i < memory.size(); ++i) {
    memory[i] = payload_of(make_key(i));
    if (!dump) std::fill(memory[i].begin(), memory[i].end(), std::byte{0});
    rows.push_back({make_key(i), memory[i].data(), kPayload, kPayload, i});
  }
  std::array<bool, 6> good = {};
  const TaskPtr task = Task::make(static_cast<uint32_t>(rows.size()));
  const auto done = [&](uint32_t row, const Status& status) {
    good[row] = status.ok();
    task->finish_row(row, status);
  };
  if (dump) {
    store->dump(rows, done, nullptr);
  } else {
    store->load(rows, done, nullptr);
  }
  static_cast<void>(task->wait(std::chrono::minutes(1)));
  promise(task->done(), "every row ends");
  for (uint32_t i = 0; !dump && i < memory.size(); ++i) {
    promise(!good[i] || memory[i] == payload_of(make_key(i)), "no load brings wrong bytes");
  }
  return good;
}

const std::string& whole_store() {
  static const std::string* const kFolder = [] {
    auto* folder = new std::string(io::join(fuzz_folder(), "whole"));
    auto store = PageStore::open(store_options(*folder));
    promise(store.ok(), "a store can be made");
    for (const bool good : move_blocks(store.value().get(), true)) promise(good, "a dump works");
    return folder;
  }();
  return *kFolder;
}

std::vector<Bytes> store_corpus() {
  std::vector<Bytes> corpus;
  for (size_t i = 0; i < kStoreFiles.size(); ++i) {
    corpus.push_back(read_file(io::join(whole_store(), kStoreFiles[i])));
    corpus.back().insert(corpus.back().begin(), static_cast<std::byte>(i));
  }
  return corpus;
}

void run_store(std::span<const std::byte> input) {
  if (input.empty()) return;
  const auto which = static_cast<size_t>(input[0]) % kStoreFiles.size();
  const std::string folder = io::join(fuzz_folder(), "store");
  std::filesystem::remove_all(folder);
  std::filesystem::copy(whole_store(), folder);
  write_file(io::join(folder, kStoreFiles[which]), input.subspan(1));
  static_cast<void>(walk_pages(folder, true, [](const BlockRecord&) { return true; }));
  auto reading = store_options(folder);
  reading.read_only = true;
  if (auto reader = PageStore::open(reading); reader.ok()) {
    move_blocks(reader.value().get(), false);
  }
  auto store = PageStore::open(store_options(folder));
  if (!store.ok()) {
    promise(which == 0, "only its description keeps a store closed");
    return;
  }
  move_blocks(store.value().get(), false);
  for (const bool good : move_blocks(store.value().get(), true)) {
    promise(good, "a damaged store takes blocks again");
  }
  for (const bool good : move_blocks(store.value().get(), false)) promise(good, "and keeps them");
}

constexpr std::array<FuzzTarget, 8> kTargets = {{
    {"trailer", trailer_corpus, repair_last_page, run_trailer, 1},
    {"pack", pack_corpus, repair_last_page, run_pack, 2},
    {"lease", lease_corpus, leave_alone, run_lease, 10},
    {"meeting", meeting_corpus, leave_alone, run_meeting, 20},
    {"format", format_corpus, leave_alone, run_format, 4},
    {"block", block_file_corpus, repair_last_page, run_block_file, 10},
    {"index", index_corpus, repair_entries, run_index, 20},
    {"store", store_corpus, leave_alone, run_store, 500},
}};

struct ScratchFolder {
  ScratchFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "ucm-fuzz-XXXXXX").string();
    if (::mkdtemp(pattern.data()) != nullptr) path = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  std::string path;
};

}  // namespace

std::span<const FuzzTarget> fuzz_targets() { return kTargets; }

const std::string& fuzz_folder() {
  static const ScratchFolder kFolder;
  return kFolder.path;
}

void promise(bool kept, const char* what) {
  if (kept) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

}  // namespace ucm::test
