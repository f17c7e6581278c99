// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "stages/posix/posix_block_file.h"
#include "stages/posix/posix_options.h"
#include "stages/posix/posix_pack.h"
#include "ucm/key.h"
#include "ucm/layout.h"
#include "ucm/status.h"

namespace ucm::posix {

inline constexpr const char* kFormatFile = "FORMAT.json";
inline constexpr const char* kTemporaryPrefix = ".t-";

// The version in the FORMAT.json of a root: 2 where blocks may share files, else 1. not_found:
// there is none. corruption: it can not be read as ours. unsupported: another version.
Result<uint64_t> format_version(const std::string& root);
Status check_format(const std::string& root);

// The blocks of a namespace lie in a folder of its own below the root: "<root>/n-<namespace>";
// those without one in the root itself.
inline constexpr const char* kNamespacePrefix = "n-";
std::string namespace_folder(const std::string& root, const std::string& name);

// Where a block lies below such a folder: "<folder>/3f/3fa9...".
std::string block_path(const std::string& folder, const BlockKey& key);

// The empty file that says that a block is pinned: "<folder>/3f/.p-3fa9...".
inline constexpr const char* kPinPrefix = ".p-";
std::string pin_path(const std::string& folder, const BlockKey& key);

// A fresh name in `folder` for a file that is being written.
std::string temporary_path(const std::string& folder);

// One directory of block files, of one namespace. Safe to use from many threads and processes; all
// state is in the file system. Only damaged files are ever removed while somebody reads.
class BlockRoot {
 public:
  // Makes the directory and its FORMAT.json unless read-only. A device or server that does not
  // answer is no error: the root is used again as soon as it works.
  static Result<std::unique_ptr<BlockRoot>> open(const std::string& path,
                                                 const PosixOptions& options, bool read_only);

  // Is told of the files that a write takes out of its way. Set before the first write.
  void on_cleared(std::function<void(const io::PathInfo&)> hook) { on_cleared_ = std::move(hook); }
  // Where its blocks lie.
  const std::string& path() const { return path_; }

  // Bytes of the block's file; not_found when there is none.
  Result<uint64_t> size_of(const BlockKey& key) const;
  // A damaged file is unlinked by a writer.
  // `first_time` is asked when the page cache does not have the block and may be passed by.
  Result<BlockReport> read(const BlockKey& key, const BlockLayout& layout, bool check_payload,
                           std::byte* buffer, const std::function<bool()>& first_time) const;
  // See read_cached_block; never on a file system that asks somebody else.
  bool read_cached(const BlockKey& key, const BlockLayout& layout, std::byte* payload,
                   BlockReport* report) const;
  Result<BlockReport> examine(const BlockKey& key, const BlockLayout& layout) const;
  // True when our file was published, false when a sound one was there first. `wanted` is asked
  // before publishing: false drops what was written and answers cancelled.
  Result<bool> write(const BlockKey& key, const BlockLayout& layout, const BlockImage& image,
                     int64_t modified_ns, const std::function<bool()>& wanted);
  // Under `strict` a block that somebody else has written, maybe a moment ago, is on the disk after
  // this; not_found when it has gone.
  Status settle_found(const BlockKey& key);
  // Whether blocks may share files here.
  bool packs() const;
  // One answer per block of the image, as `write` gives for one. `wanted` is asked with the number
  // of a block. Any failure but cancelled and unsupported: the block can still be written alone.
  std::vector<Result<bool>> write_pack(const BlockLayout& layout, const PackImage& image,
                                       int64_t modified_ns,
                                       const std::function<bool(size_t)>& wanted);
  // Bytes that were freed; 0 when there was no such block. Its pin goes too.
  Result<uint64_t> remove(const BlockKey& key) const;
  // Marks the block for the collectors of all processes. False when there is no such block.
  Result<bool> pin(const BlockKey& key) const;
  Status unpin(const BlockKey& key) const;

 private:
  BlockRoot(const std::string& root, const PosixOptions& options, bool read_only);

  Status prepare();
  Status prepare_folder(const std::string& folder) const;
  Status make_format() const;
  Status ready();
  void drop(const BlockKey& key, const BlockReport& report) const;
  Status make_block_folder(const std::string& folder);
  std::string folder_of(const BlockKey& key) const;
  Result<io::File> create(const std::string& folder);
  // Makes the names of a block's file and folder survive a power loss.
  Status settle(const BlockKey& key);
  void settle_pack(const std::vector<PackedBlock>& blocks, std::vector<Result<bool>>* answers);
  // After the contents were written: flushed where that is due, and the time of last use.
  Status finish_file(const io::File& file, int64_t modified_ns, uint64_t* inode) const;
  Result<bool> publish(const std::string& from, const BlockKey& key, const BlockLayout& layout,
                       uint64_t inode) const;
  // The same for a block of a pack, whose file keeps the name `from`.
  Result<bool> publish_packed(const std::string& from, const BlockKey& key,
                              const BlockLayout& layout, uint64_t inode);
  // What a name that is taken means: false for a sound block, no answer when it is free now. What
  // is damaged or of another layout goes.
  Result<bool> judge_rival(const BlockKey& key, const BlockLayout& layout, bool* free) const;

  const std::string root_;  // where FORMAT.json lies
  const std::string path_;
  const PosixOptions options_;
  const bool read_only_;
  std::function<void(const io::PathInfo&)> on_cleared_;
  std::atomic<bool> network_;
  std::atomic<bool> local_;
  std::atomic<bool> ready_{false};
  std::atomic<uint64_t> version_{0};
  std::atomic<bool> links_refused_{false};
  std::mutex prepare_mutex_;
  std::array<std::atomic<bool>, 256> safe_folders_ = {};  // strict: their names are on the disk
};

}  // namespace ucm::posix
