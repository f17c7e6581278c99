// SPDX-License-Identifier: Apache-2.0
// usage: ucm_fuzz [TARGET|all] [SECONDS [SEED]]
//        ucm_fuzz corpus FOLDER    what the writers make, a folder for each target, for libFuzzer
// Changes what the real writer makes and gives it to the parsers. The same seed makes the same
// inputs; a run that ends badly has printed it.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "fuzz_targets.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace ucm::test {
namespace {

using Clock = std::chrono::steady_clock;

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  Bytes mutate(const std::vector<Bytes>& corpus, size_t keep) {
    Bytes input = corpus[below(corpus.size())];
    const uint64_t changes = 1 + below(below(4) == 0 ? 24 : 4);
    for (uint64_t i = 0; i < changes; ++i) change(&input, corpus, keep);
    return input;
  }
  uint64_t below(uint64_t limit) { return limit == 0 ? 0 : random_() % limit; }
  std::mt19937_64* random() { return &random_; }

 private:
  // The first `keep` bytes stay as they are.
  void change(Bytes* input, const std::vector<Bytes>& corpus, size_t keep) {
    const size_t room = input->size() > keep ? input->size() - keep : 0;
    const size_t at = keep + below(room);
    const size_t span = std::min<size_t>(room == 0 ? 0 : input->size() - at, 1 + below(64));
    switch (room == 0 ? 5 : below(9)) {
      case 0:
        (*input)[at] ^= static_cast<std::byte>(1u << below(8));
        break;
      case 1:
        for (size_t i = 0; i < span; ++i) (*input)[at + i] = static_cast<std::byte>(below(256));
        break;
      case 2:
        set_number(input, at);
        break;
      case 3:
        input->resize(at);
        break;
      case 4:
        input->erase(offset(input, at), offset(input, at + span));
        break;
      case 5:
        input->insert(offset(input, at), 1 + below(64), static_cast<std::byte>(below(256)));
        break;
      case 6: {
        const Bytes copy(offset(input, at), offset(input, at + span));
        input->insert(offset(input, keep + below(room)), copy.begin(), copy.end());
        break;
      }
      case 7: {
        const Bytes& other = corpus[below(corpus.size())];
        const size_t from = below(other.size());
        const size_t count = std::min(span, other.size() - from);
        std::memcpy(input->data() + at, other.data() + from, count);
        break;
      }
      default:
        // A digit stays a digit: numbers in a text change without breaking it.
        if ((*input)[at] >= std::byte{'0'} && (*input)[at] <= std::byte{'9'}) {
          (*input)[at] = static_cast<std::byte>('0' + below(10));
        } else {
          (*input)[at] = std::byte{0};
        }
    }
  }

  static Bytes::iterator offset(Bytes* input, size_t at) {
    return input->begin() + static_cast<ptrdiff_t>(at);
  }

  // Numbers at which things go wrong.
  void set_number(Bytes* input, size_t at) {
    static constexpr uint64_t kNumbers[] = {
        0,          1,          0x7F,       0x80,       0xFF,       0xFFF, 0x1000,
        0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1ull << 32, 1ull << 63, ~0ull, ~0ull - 63};
    const uint64_t number = kNumbers[below(std::size(kNumbers))];
    const size_t bytes = std::min<size_t>(size_t{1} << below(4), input->size() - at);
    std::memcpy(input->data() + at, &number, bytes);
  }

  std::mt19937_64 random_;
};

// Runs one target for a while; answers how many inputs it has seen.
uint64_t fuzz(size_t number, Clock::time_point until, uint64_t least, uint64_t seed) {
  const FuzzTarget& target = fuzz_targets()[number];
  const std::vector<Bytes> corpus = target.corpus();
  const size_t keep = std::strcmp(target.name, "store") == 0 ? 1 : 0;
  Mutator mutator(seed);
  uint64_t runs = 0;
  for (; runs < least || Clock::now() < until; ++runs) {
    Bytes input = mutator.mutate(corpus, keep);
    if (mutator.below(2) == 0) target.repair(&input, mutator.random());
    input.insert(input.begin(), static_cast<std::byte>(number));
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
  }
  return runs;
}

int run(const std::string& wanted, double seconds, uint64_t seed) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  const auto targets = fuzz_targets();
  bool found = false;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (wanted != "all" && wanted != targets[i].name) continue;
    found = true;
    const double share = wanted == "all" ? seconds / static_cast<double>(targets.size()) : seconds;
    const auto until = Clock::now() + std::chrono::microseconds(static_cast<int64_t>(share * 1e6));
    const uint64_t runs = fuzz(i, until, 10000 / targets[i].cost, seed + i);
    std::printf("%-8s %llu inputs\n", targets[i].name, static_cast<unsigned long long>(runs));
    std::fflush(stdout);
  }
  return found ? 0 : 2;
}

int write_corpus(const std::filesystem::path& folder) {
  const auto targets = fuzz_targets();
  for (size_t i = 0; i < targets.size(); ++i) {
    std::filesystem::create_directories(folder / targets[i].name);
    size_t number = 0;
    for (const Bytes& input : targets[i].corpus()) {
      std::ofstream out(folder / targets[i].name / std::to_string(number++), std::ios::binary);
      out.put(static_cast<char>(i));
      out.write(reinterpret_cast<const char*>(input.data()),
                static_cast<std::streamsize>(input.size()));
      if (!out.flush()) return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace ucm::test

int main(int count, char** words) {
  const std::string target = count > 1 ? words[1] : "all";
  if (target == "corpus" && count == 3) return ucm::test::write_corpus(words[2]);
  const double seconds = count > 2 ? std::strtod(words[2], nullptr) : 0;
  const uint64_t seed = count > 3 ? std::strtoull(words[3], nullptr, 10) : std::random_device()();
  return ucm::test::run(target, seconds, seed);
}
