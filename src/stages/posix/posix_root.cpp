// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_root.h"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <random>
#include <set>
#include <variant>

#include "io/direct.h"
#include "io/flat_json.h"
#include "io/paths.h"
#include "stages/posix/posix_calls.h"
#include "ucm/log.h"

namespace ucm::posix {
namespace {

constexpr const char* kFormatName = "ucm-posix";
constexpr uint64_t kPlainVersion = 1;   // a file per block
constexpr uint64_t kPackedVersion = 2;  // blocks may share files

std::string random_uuid() {
  std::random_device random;
  BlockKey bits;
  bits.low = (uint64_t{random()} << 32) | random();
  bits.high = (uint64_t{random()} << 32) | random();
  return bits.hex();
}

// 0x3f of ".../3f".
size_t folder_number(const std::string& folder) {
  size_t number = 0;
  const char* end = folder.data() + folder.size();
  std::from_chars(end - 2, end, number, 16);
  return number;
}

// Numbers temporary files of this process; the start differs between processes that share a pid.
uint32_t next_temporary() {
  static std::atomic<uint32_t> next{std::random_device()()};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

Result<uint64_t> format_version(const std::string& root) {
  const std::string path = io::join(root, kFormatFile);
  UCM_TRY_ASSIGN(const std::string text, io::read_small_file(path, 4096));
  const auto parsed = io::parse_flat_json(text);
  if (!parsed.ok()) {
    return make_status(Code::corruption,
                       "posix: %s is not readable as JSON; move it away if the directory is a "
                       "store, or choose an empty directory",
                       path.c_str());
  }
  const io::FlatJson& object = parsed.value();
  const auto format = object.find("format");
  const auto version = object.find("version");
  const std::string* format_name =
      format == object.end() ? nullptr : std::get_if<std::string>(&format->second);
  const uint64_t* number =
      version == object.end() ? nullptr : std::get_if<uint64_t>(&version->second);
  if (format_name == nullptr || *format_name != kFormatName || number == nullptr) {
    return make_status(Code::corruption,
                       "posix: %s does not describe a Posix store; choose another directory",
                       path.c_str());
  }
  if (*number != kPlainVersion && *number != kPackedVersion) {
    return make_status(Code::unsupported,
                       "posix: %s has format version %llu, this version of ucm reads %llu; choose "
                       "another directory or use the ucm that wrote it",
                       path.c_str(), static_cast<unsigned long long>(*number),
                       static_cast<unsigned long long>(kPackedVersion));
  }
  return *number;
}

Status check_format(const std::string& root) { return format_version(root).status(); }

std::string namespace_folder(const std::string& root, const std::string& name) {
  return name.empty() ? root : io::join(root, kNamespacePrefix + name);
}

std::string block_path(const std::string& folder, const BlockKey& key) {
  const std::string hex = key.hex();
  std::string path;
  path.reserve(folder.size() + hex.size() + 4);
  path.append(folder).append("/").append(hex, 0, 2).append("/").append(hex);
  return path;
}

std::string pin_path(const std::string& folder, const BlockKey& key) {
  const std::string hex = key.hex();
  return folder + "/" + hex.substr(0, 2) + "/" + kPinPrefix + hex;
}

std::string temporary_path(const std::string& folder) {
  // Never destroyed: a thread left behind by a hung storage may still come by at exit.
  static const std::string* const kHost = new std::string(host_name());
  return io::join(folder, kTemporaryPrefix + *kHost + "-" + std::to_string(::getpid()) + "-" +
                              std::to_string(next_temporary()));
}

BlockRoot::BlockRoot(const std::string& root, const PosixOptions& options, bool read_only)
    : root_(root),
      path_(namespace_folder(root, options.own_namespace)),
      options_(options),
      read_only_(read_only),
      network_(on_network(root_)),
      local_(on_local_disk(root_)) {}

Result<std::unique_ptr<BlockRoot>> BlockRoot::open(const std::string& path,
                                                   const PosixOptions& options, bool read_only) {
  std::unique_ptr<BlockRoot> root(new BlockRoot(path, options, read_only));
  Status status = root->prepare();
  if (status.ok()) {
    root->ready_.store(true);
  } else if (device_error(path) == 0) {
    return status;
  } else {
    log(LogLevel::warning, "posix: %s is left out until it works: %s", path.c_str(),
        status.to_string().c_str());
  }
  return root;
}

// A directory that was there keeps the permissions its owner gave it.
Status BlockRoot::prepare_folder(const std::string& folder) const {
  const bool made = !io::exists(folder);
  UCM_TRY(io::make_folders(folder, options_.dir_mode, options_.durability != Durability::none));
  if (made && options_.dir_mode != 0700) UCM_TRY(set_mode(folder, options_.dir_mode));
  return check_writable(folder);
}

Status BlockRoot::prepare() {
  if (read_only_) {
    const auto info = io::path_info(root_);
    // A reader may come before the first writer has made the store.
    if (!info.ok()) return info.status().code() == Code::not_found ? Status() : info.status();
    if (!info.value().is_folder) {
      return make_status(Code::invalid_argument,
                         "posix: %s is a file; storage_backends names directories", root_.c_str());
    }
    Status status = check_format(root_);
    return status.code() == Code::not_found ? Status() : status;
  }
  UCM_TRY(prepare_folder(root_));
  network_.store(on_network(root_));
  local_.store(on_local_disk(root_));
  auto version = format_version(root_);
  if (version.status().code() == Code::not_found) {
    UCM_TRY(make_format());
    // Another process may have been first; what counts is what stands there now.
    version = format_version(root_);
  }
  UCM_TRY(version.status());
  version_.store(version.value());
  return path_ == root_ ? Status() : prepare_folder(path_);
}

Status BlockRoot::make_format() const {
  const std::string text =
      io::format_flat_json({{"format", std::string(kFormatName)},
                            {"version", options_.pack_bytes > 0 ? kPackedVersion : kPlainVersion},
                            {"uuid", random_uuid()}});
  const std::string aside = temporary_path(root_);
  UCM_TRY(io::write_small_file(aside, text, options_.file_mode));
  if (options_.file_mode != 0600) UCM_TRY(set_mode(aside, options_.file_mode));
  UCM_TRY_ASSIGN(const io::PathInfo info, io::path_info(aside));
  const auto published = publish_name(aside, io::join(root_, kFormatFile), info.inode);
  if (!published.ok() || !published.value()) (void)io::unlink_file(aside);
  return published.status();
}

Status BlockRoot::ready() {
  if (ready_.load(std::memory_order_acquire)) return {};
  const std::lock_guard lock(prepare_mutex_);
  if (ready_.load(std::memory_order_relaxed)) return {};
  UCM_TRY(prepare());
  ready_.store(true, std::memory_order_release);
  return {};
}

Result<uint64_t> BlockRoot::size_of(const BlockKey& key) const {
  UCM_TRY_ASSIGN(const io::PathInfo info, io::path_info(block_path(path_, key)));
  return info.is_file ? info.bytes : 0;
}

void BlockRoot::drop(const BlockKey& key, const BlockReport& report) const {
  const std::string path = block_path(path_, key);
  // After a change of the layout every block is one of another layout: nothing to warn of.
  const bool damaged = report.finding == Finding::damaged;
  log(damaged ? LogLevel::warning : LogLevel::debug, "posix: block %s: %s in %s: %s",
      key.prefix().c_str(), report.cause, path.c_str(), read_only_ ? "not used" : "dropped");
  if (read_only_) return;
  // Only the file that was looked at: a good one may have taken its place.
  const auto now = io::path_info(path);
  if (now.ok() && now.value().inode == report.info.inode) (void)io::unlink_file(path);
}

Result<BlockReport> BlockRoot::read(const BlockKey& key, const BlockLayout& layout,
                                    bool check_payload, std::byte* buffer,
                                    const std::function<bool()>& first_time) const {
  const bool chooses = local_.load(std::memory_order_relaxed) && !options_.io_direct;
  UCM_TRY_ASSIGN(BlockReport report,
                 read_block_file(block_path(path_, key), key, layout, options_.always_direct(),
                                 check_payload, buffer, chooses ? &first_time : nullptr));
  if (report.finding == Finding::damaged) drop(key, report);
  return report;
}

bool BlockRoot::read_cached(const BlockKey& key, const BlockLayout& layout, std::byte* payload,
                            BlockReport* report) const {
  return local_.load(std::memory_order_relaxed) && !options_.always_direct() &&
         read_cached_block(block_path(path_, key), key, layout, payload, report);
}

Result<BlockReport> BlockRoot::examine(const BlockKey& key, const BlockLayout& layout) const {
  UCM_TRY_ASSIGN(BlockReport report, examine_block_file(block_path(path_, key), key, layout));
  if (report.finding == Finding::damaged) drop(key, report);
  return report;
}

std::string BlockRoot::folder_of(const BlockKey& key) const {
  return io::join(path_, key.hex().substr(0, 2));
}

Status BlockRoot::make_block_folder(const std::string& folder) {
  UCM_TRY(io::make_folders(folder, options_.dir_mode));
  safe_folders_[folder_number(folder)].store(false, std::memory_order_release);
  // Fails when another user made the folder meanwhile, who then chose its permissions too.
  if (options_.dir_mode != 0700) (void)set_mode(folder, options_.dir_mode);
  return {};
}

Result<io::File> BlockRoot::create(const std::string& folder) {
  constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL;
  std::string path = temporary_path(folder);
  auto file = io::open_direct(path, kFlags, options_.file_mode, options_.always_direct());
  if (!file.ok() && file.status().code() == Code::not_found) {
    UCM_TRY(make_block_folder(folder));
    file = io::open_direct(path, kFlags, options_.file_mode, options_.always_direct());
  }
  if (!file.ok() && options_.always_direct()) {
    // Some file systems make the file before they refuse O_DIRECT.
    (void)io::unlink_file(path);
    path = temporary_path(folder);
    file = io::File::open(path, kFlags, options_.file_mode);
  }
  if (file.ok() && options_.file_mode != 0600) {
    if (Status status = set_mode(path, options_.file_mode); !status.ok()) {
      (void)io::unlink_file(path);
      return status;
    }
  }
  return file;
}

Result<bool> BlockRoot::judge_rival(const BlockKey& key, const BlockLayout& layout,
                                    bool* free) const {
  *free = false;
  UCM_TRY_ASSIGN(const BlockReport report, examine(key, layout));
  // Nobody of this layout can read it, and it would keep the block away for ever.
  if (report.finding == Finding::other_layout) drop(key, report);
  *free = report.finding != Finding::sound;
  if (*free && report.finding != Finding::absent && on_cleared_) on_cleared_(report.info);
  return false;
}

Result<bool> BlockRoot::publish(const std::string& from, const BlockKey& key,
                                const BlockLayout& layout, uint64_t inode) const {
  const std::string to = block_path(path_, key);
  // Again: what stands in the way may be damaged and be dropped, or vanish by itself.
  for (int round = 0; round < 3; ++round) {
    UCM_TRY_ASSIGN(const bool ours, publish_name(from, to, inode));
    if (ours) return true;
    bool free = false;
    const Result<bool> rival = judge_rival(key, layout, &free);
    if (!free) return rival;
  }
  return make_status(Code::io_error, "posix: block %s: %s can not be replaced",
                     key.prefix().c_str(), to.c_str());
}

Result<bool> BlockRoot::publish_packed(const std::string& from, const BlockKey& key,
                                       const BlockLayout& layout, uint64_t inode) {
  const std::string to = block_path(path_, key);
  for (int round = 0; round < 3; ++round) {
    auto ours = add_name(from, to, inode);
    if (ours.status().code() == Code::not_found) {
      UCM_TRY(make_block_folder(folder_of(key)));
      ours = add_name(from, to, inode);
    }
    if (!ours.ok()) {
      // Whatever the reason is, such blocks get files of their own from now on.
      links_refused_.store(true);
      return make_status(Code::io_error, "%s", ours.status().message().c_str());
    }
    if (ours.value()) return true;
    bool free = false;
    const Result<bool> rival = judge_rival(key, layout, &free);
    if (!free) return rival;
  }
  return make_status(Code::io_error, "posix: block %s: %s can not be replaced",
                     key.prefix().c_str(), to.c_str());
}

Status BlockRoot::finish_file(const io::File& file, int64_t modified_ns, uint64_t* inode) const {
  // Other machines see buffered contents only after they were flushed.
  if (options_.durability != Durability::none || (network_.load() && !file.direct())) {
    UCM_TRY(io::sync_data(file));
  }
  // The collector goes by this time, so it is set only where something is collected.
  if (options_.collects()) set_modified(file, modified_ns);
  UCM_TRY_ASSIGN(const io::PathInfo info, file_info(file));
  *inode = info.inode;
  return {};
}

Result<bool> BlockRoot::write(const BlockKey& key, const BlockLayout& layout,
                              const BlockImage& image, int64_t modified_ns,
                              const std::function<bool()>& wanted) {
  UCM_TRY(ready());
  const std::string folder = folder_of(key);
  UCM_TRY_ASSIGN(io::File file, create(folder));
  const std::string temporary = file.path();
  uint64_t inode = 0;
  Status status = image.write(file);
  if (status.ok()) status = finish_file(file, modified_ns, &inode);
  file.close();
  if (status.ok() && !wanted()) {
    status =
        make_status(Code::cancelled, "posix: block %s is no longer wanted", key.prefix().c_str());
  }
  Result<bool> ours = status;
  if (status.ok()) ours = publish(temporary, key, layout, inode);
  if (!ours.ok() || !ours.value()) {
    (void)io::unlink_file(temporary);
    if (ours.ok()) UCM_TRY(settle_found(key));
    return ours;
  }
  UCM_TRY(settle(key));
  return true;
}

Status BlockRoot::settle(const BlockKey& key) {
  if (options_.durability != Durability::strict) return {};
  const std::string folder = folder_of(key);
  UCM_TRY(io::sync_folder(folder));
  // The folder itself may have been made a moment ago, here or elsewhere.
  std::atomic<bool>& safe = safe_folders_[folder_number(folder)];
  if (safe.load(std::memory_order_acquire)) return {};
  UCM_TRY(io::sync_folder(path_));
  safe.store(true, std::memory_order_release);
  return {};
}

Status BlockRoot::settle_found(const BlockKey& key) {
  if (options_.durability != Durability::strict) return {};
  UCM_TRY_ASSIGN(const io::File file, io::File::open(block_path(path_, key), O_RDONLY));
  UCM_TRY(io::sync_data(file));
  return settle(key);
}

bool BlockRoot::packs() const {
  return options_.pack_bytes > 0 && version_.load() == kPackedVersion && !links_refused_.load();
}

std::vector<Result<bool>> BlockRoot::write_pack(const BlockLayout& layout, const PackImage& image,
                                                int64_t modified_ns,
                                                const std::function<bool(size_t)>& wanted) {
  const std::vector<PackedBlock>& blocks = image.blocks();
  std::vector<Result<bool>> answers;
  answers.reserve(blocks.size());
  Status status = ready();
  auto file = status.ok() ? create(folder_of(blocks.front().key)) : Result<io::File>(status);
  if (!file.ok()) return std::vector<Result<bool>>(blocks.size(), file.status());
  const std::string temporary = file.value().path();
  uint64_t inode = 0;
  status = image.write(file.value());
  if (status.ok()) status = finish_file(file.value(), modified_ns, &inode);
  file.value().close();
  for (size_t i = 0; i < blocks.size(); ++i) {
    const BlockKey& key = blocks[i].key;
    if (!status.ok()) {
      answers.emplace_back(status);
    } else if (!wanted(i)) {
      answers.emplace_back(make_status(Code::cancelled, "posix: block %s is no longer wanted",
                                       key.prefix().c_str()));
    } else {
      answers.push_back(publish_packed(temporary, key, layout, inode));
    }
  }
  // The blocks have names of their own; a name that stays after a crash is reaped.
  (void)io::unlink_file(temporary);
  if (options_.durability == Durability::strict) settle_pack(blocks, &answers);
  return answers;
}

void BlockRoot::settle_pack(const std::vector<PackedBlock>& blocks,
                            std::vector<Result<bool>>* answers) {
  std::set<std::string> safe;
  for (size_t i = 0; i < blocks.size(); ++i) {
    Result<bool>& answer = (*answers)[i];
    if (!answer.ok()) continue;
    const BlockKey& key = blocks[i].key;
    Status status;
    if (!answer.value()) {
      status = settle_found(key);
    } else if (safe.insert(folder_of(key)).second) {
      status = settle(key);
    }
    // Asked for again for the next block of that folder.
    if (!status.ok()) safe.erase(folder_of(key));
    if (!status.ok()) answer = std::move(status);
  }
}

Result<uint64_t> BlockRoot::remove(const BlockKey& key) const {
  const std::string path = block_path(path_, key);
  const auto info = io::path_info(path);
  if (!info.ok()) {
    if (info.status().code() == Code::not_found) return uint64_t{0};
    return info.status();
  }
  UCM_TRY(unpin(key));
  const Status status = io::unlink_file(path);
  if (status.code() == Code::not_found) return uint64_t{0};
  UCM_TRY(status);
  return share_of(info.value());
}

Result<bool> BlockRoot::pin(const BlockKey& key) const {
  const std::string block = block_path(path_, key);
  if (!io::exists(block)) return false;
  UCM_TRY_ASSIGN(const io::File mark,
                 io::File::open(pin_path(path_, key), O_WRONLY | O_CREAT, options_.file_mode));
  // A mark without a block is removed when it is old.
  set_modified_now(mark);
  if (io::exists(block)) return true;
  UCM_TRY(unpin(key));
  return false;
}

Status BlockRoot::unpin(const BlockKey& key) const {
  Status status = io::unlink_file(pin_path(path_, key));
  return status.code() == Code::not_found ? Status() : status;
}

}  // namespace ucm::posix
