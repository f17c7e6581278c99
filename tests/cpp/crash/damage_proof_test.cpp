// SPDX-License-Identifier: Apache-2.0
// Every file of a store, damaged at random places in every way a disk or a person may do it.
#include <fcntl.h>

#include <algorithm>

#include "crash_fixture.h"
#include "io/files.h"
#include "io/paths.h"

namespace ucm::test {
namespace {

constexpr uint64_t kBlocks = 12;

struct DamageCase {
  const char* name;
  const char* stage;
  int64_t pack_bytes = 0;  // posix: blocks share files
};

class DamageProof : public CrashTest, public ::testing::WithParamInterface<DamageCase> {
 protected:
  Options options() const {
    return {{"capacity_bytes", int64_t{400 * 4096}},
            {"segment_bytes", int64_t{16 * 4096}},
            {"pack_bytes", GetParam().pack_bytes},
            {"timeout_s", 15.0}};
  }

  static std::vector<std::string> files_below(const std::string& folder) {
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (entry.is_regular_file()) files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  // One change of one file; says what it was.
  std::string damage(const std::string& file, const std::vector<std::string>& others) {
    auto text = io::read_small_file(file, 64 << 20);
    EXPECT_TRUE(text.ok());
    std::string bytes = text.ok() ? text.value() : "";
    const uint64_t at = below(bytes.size() + 1);
    const uint64_t span = std::min<uint64_t>(bytes.size() - at, 1 + below(9000));
    const char* what = "";
    switch (below(8)) {
      case 0:
        what = "a flipped bit";
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 1:
        what = "garbage";
        for (uint64_t i = at; i < at + span; ++i) bytes[i] = static_cast<char>(random_());
        break;
      case 2:
        what = "zeros";
        std::fill_n(bytes.begin() + static_cast<ptrdiff_t>(at), span, '\0');
        break;
      case 3:
        what = "a cut";
        bytes.resize(at);
        break;
      case 4:
        what = "an extension";
        bytes.append(1 + below(20000), static_cast<char>(random_()));
        break;
      case 5:
        what = "another part of itself";
        if (!bytes.empty()) bytes.replace(at, span, bytes.substr(below(bytes.size()), span));
        break;
      case 6: {
        what = "another file of the store";
        const auto other = io::read_small_file(others[below(others.size())], 64 << 20);
        bytes = other.ok() ? other.value() : "";
        break;
      }
      default:
        std::filesystem::remove(file);
        return "removal";
    }
    const auto out = io::File::open(file, O_WRONLY | O_TRUNC);
    EXPECT_TRUE(io::write_at(out.value(), 0, bytes.data(), bytes.size()).ok());
    return std::string(what) + " at " + std::to_string(at) + " + " + std::to_string(span);
  }
};

TEST_P(DamageProof, no_damage_of_any_file_shows_a_wrong_block_or_keeps_the_store_closed) {
  const std::string whole = scratch("whole");
  const auto keys = make_keys(0, kBlocks);
  {
    const StorePtr store = open(GetParam().stage, options(), whole);
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
  }
  const std::vector<std::string> files = files_below(whole);
  // LOCK or lease aside there is a description and something that holds blocks.
  ASSERT_GE(files.size(), 4u);
  const uint64_t rounds = from_environment("UCM_DAMAGE_ROUNDS", 2);
  for (uint64_t round = 0; round < rounds; ++round) {
    for (const std::string& original : files) {
      const std::string copy = scratch("copy");
      std::filesystem::copy(whole, copy, std::filesystem::copy_options::recursive);
      const std::string file = copy + original.substr(whole.size());
      const std::string what = damage(file, files);
      const ::testing::ScopedTrace trace(__FILE__, __LINE__,
                                         original.substr(whole.size()) + ": " + what);
      const auto store = try_open(GetParam().stage, options(), copy);
      if (store.ok()) {
        check_survivors(*store.value(), keys);
        store.value()->close();
      } else {
        // Only a description that can not be this version's keeps a store closed, and says so.
        EXPECT_NE(original.find("FORMAT.json"), std::string::npos) << store.status().to_string();
        EXPECT_TRUE(store.status().code() == Code::unsupported ||
                    store.status().code() == Code::corruption ||
                    store.status().code() == Code::invalid_argument)
            << store.status().to_string();
      }
      wipe(copy);
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Stages, DamageProof,
                         ::testing::Values(DamageCase{"disk", "disk"}, DamageCase{"posix", "posix"},
                                           DamageCase{"packed", "posix", 65536}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace ucm::test
