// SPDX-License-Identifier: Apache-2.0
#include "stages/posix/posix_inspect.h"

#include "io/aligned_buffer.h"
#include "io/files.h"
#include "io/paths.h"
#include "stages/posix/posix_block_file.h"
#include "stages/posix/posix_calls.h"
#include "stages/posix/posix_root.h"
#include "stages/posix/posix_walk.h"

namespace ucm::posix {
namespace {

class BlockInspector {
 public:
  explicit BlockInspector(bool verify) : verify_(verify) {}

  // False when the block has vanished meanwhile.
  Result<bool> look(const BlockKey& key, const std::string& path, BlockRecord* record) {
    UCM_TRY_ASSIGN(const BlockReport report, examine_block_file(path, key, BlockLayout()));
    if (report.finding == Finding::absent) return false;
    record->key = key;
    record->stage = "Posix";
    record->location = path;
    if (report.finding == Finding::sound) {
      record->bytes = report.trailer.payload_bytes;
      record->layout_id = report.trailer.layout_id;
      record->written_ns = report.trailer.written_ns;
    } else {
      const uint64_t bytes = share_of(report.info);
      record->bytes = bytes > kTrailerBytes ? bytes - kTrailerBytes : 0;
    }
    if (!verify_) return true;
    if (report.finding != Finding::sound) {
      set_damage(record, report.cause);
      return true;
    }
    UCM_TRY(verify_payload(report, record));
    return true;
  }

 private:
  static void set_damage(BlockRecord* record, const std::string& cause) {
    record->damaged = true;
    record->damage = "the " + cause + " of the file does not match";
  }

  Status verify_payload(const BlockReport& report, BlockRecord* record) {
    const size_t padded = align_up(report.trailer.payload_bytes);
    if (buffer_.bytes() < padded) buffer_ = io::AlignedBuffer::make(padded);
    if (!buffer_) {
      return make_status(Code::out_of_memory, "posix: no memory for a block of %zu bytes", padded);
    }
    UCM_TRY_ASSIGN(const size_t got,
                   io::read_at(report.file, report.payload_offset, buffer_.data(), padded));
    const char* cause = got < padded ? "size"
                                     : judge_payload(buffer_.data(), report.trailer.payload_bytes,
                                                     &report.trailer.digest);
    if (cause != nullptr) set_damage(record, cause);
    return {};
  }

  const bool verify_;
  io::AlignedBuffer buffer_;
};

}  // namespace

Status inspect_posix(const std::string& path, bool verify, const BlockVisitor& visit) {
  // A directory of another stage has a FORMAT.json too: it is not ours.
  Status format = check_format(path);
  if (format.code() == Code::corruption) {
    return make_status(Code::not_found, "posix: %s holds no Posix store", path.c_str());
  }
  UCM_TRY(format);
  BlockInspector inspector(verify);
  Status failure;
  WalkHooks hooks;
  hooks.on_block = [&](const BlockKey& key, const std::string& file) {
    BlockRecord record;
    const auto found = inspector.look(key, file, &record);
    if (!found.ok()) {
      failure = found.status();
      return false;
    }
    return !found.value() || visit(record);
  };
  UCM_TRY_ASSIGN(const std::vector<std::string> names, list_namespaces(path));
  for (const std::string& name : names) {
    const auto complete = walk_folder(namespace_folder(path, name), hooks);
    if (complete.status().code() == Code::not_found) continue;
    UCM_TRY(complete.status());
    if (!complete.value()) break;
  }
  return failure;
}

}  // namespace ucm::posix
