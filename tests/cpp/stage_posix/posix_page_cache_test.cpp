// SPDX-License-Identifier: Apache-2.0
// Loads of blocks that the kernel has in memory, and of those that it has not.
#include <fcntl.h>

#include <thread>

#include "io/page_cache.h"
#include "posix_fixture.h"
#include "stages/posix/posix_calls.h"
#include "ucm/pipeline.h"

namespace ucm::test {
namespace {

class PosixPageCacheTest : public PosixTest {
 protected:
  static bool cached(const std::string& path) {
    const auto file = io::File::open(path, O_RDONLY);
    std::vector<char> bytes(std::filesystem::file_size(path));
    return file.ok() && io::read_cached(file.value(), 0, bytes.data(), bytes.size());
  }
  // False where the file system is memory itself.
  static bool drop_cached(const std::string& path) {
    const auto file = io::File::open(path, O_RDONLY);
    EXPECT_TRUE(file.ok() && io::sync_all(file.value()).ok());
    EXPECT_EQ(::posix_fadvise(file.value().fd(), 0, 0, POSIX_FADV_DONTNEED), 0);
    return !cached(path);
  }
  static bool has_direct(const std::string& path) {
    auto file = io::File::open(path, O_RDONLY);
    return file.ok() && file.value().pass_cache();
  }
  // With the staging that a pipeline puts in front.
  std::unique_ptr<Pipeline> open_store() {
    options_["buffer_number"] = int64_t{4};
    options_["prefault"] = false;
    PipelineConfig config;
    config.spec = "Posix";
    config.layout = flat_layout();
    config.options = options_;
    auto store = Pipeline::open(config);
    EXPECT_TRUE(store.ok()) << store.status().to_string();
    return store.ok() ? std::move(store).value() : nullptr;
  }
  // On which thread a load of this block ended.
  static std::thread::id loaded_on(Store& store, const BlockKey& key, size_t* wrong) {
    Buffers buffers(store.layout(), 1);
    std::thread::id thread;
    const std::vector<BlockKey> keys{key};
    Batch batch = make_batch(keys, {}, buffers);
    batch.on_row = [&](uint32_t, const Status&) { thread = std::this_thread::get_id(); };
    EXPECT_TRUE(store.load(batch)->wait(kPatience).ok());
    *wrong = buffers.wrong_bytes(0, key, 0);
    return thread;
  }
};

TEST_F(PosixPageCacheTest, OneBlockThatTheKernelHasIsLoadedOnTheThreadThatAsks) {
  const StorePtr store = open();
  const BlockKey key = make_key(1);
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  const bool here = posix::on_local_disk(root()) && bool{io::File::open_cached(file_of(key))} &&
                    cached(file_of(key));
  size_t wrong = 1;
  EXPECT_EQ(loaded_on(*store, key, &wrong) == std::this_thread::get_id(), here);
  EXPECT_EQ(wrong, 0u);
}

TEST_F(PosixPageCacheTest, OneBlockOfASharedFileIsLoadedOnTheThreadThatAsks) {
  options_["pack_bytes"] = int64_t{65536};
  const StorePtr store = open();
  const auto keys = make_keys(0, 12);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  for (const BlockKey& key : keys) {
    const bool here = posix::on_local_disk(root()) && bool{io::File::open_cached(file_of(key))} &&
                      cached(file_of(key));
    size_t wrong = 1;
    EXPECT_EQ(loaded_on(*store, key, &wrong) == std::this_thread::get_id(), here);
    EXPECT_EQ(wrong, 0u);
  }
}

TEST_F(PosixPageCacheTest, NothingIsReadOnTheThreadThatAsksWhileTheStorageMayHang) {
  const StorePtr store = open();
  const BlockKey key = make_key(2);
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  io::set_faults({{.operation = io::Operation::read, .path = folder_of(key), .hang = true}});
  Buffers buffers(store->layout(), 1);
  const std::vector<BlockKey> keys{key};
  const TaskPtr task = store->load(make_batch(keys, {}, buffers));
  EXPECT_FALSE(task->done());
  io::set_faults({});
  EXPECT_TRUE(task->wait(kPatience).ok());
  EXPECT_EQ(buffers.wrong_bytes(0, key, 0), 0u);
}

TEST_F(PosixPageCacheTest, ABlockReadForTheFirstTimePassesThePageCacheAndForTheSecondNot) {
  options_["storage_backends"] = root();
  const StorePtr store = open();
  const BlockKey key = make_key(3);
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  const std::string file = file_of(key);
  const bool dropped = drop_cached(file);
  EXPECT_EQ(load_blocks(*store, {key}).value(), 0u);
  const bool passes = dropped && posix::on_local_disk(root()) && has_direct(file);
  EXPECT_EQ(cached(file), !passes);
  drop_cached(file);
  EXPECT_EQ(load_blocks(*store, {key}).value(), 0u);
  EXPECT_TRUE(cached(file));
}

TEST_F(PosixPageCacheTest, BlocksOfASharedFilePassThePageCacheTogether) {
  options_["pack_bytes"] = int64_t{65536};
  const StorePtr store = open();
  const auto keys = make_keys(0, 12);
  ASSERT_TRUE(dump_blocks(*store, keys).ok());
  for (int round = 0; round < 3; ++round) {
    for (const BlockKey& key : keys) drop_cached(file_of(key));
    EXPECT_EQ(load_blocks(*store, keys).value(), 0u);
  }
}

TEST_F(PosixPageCacheTest, IoDirectFalseLeavesEveryBlockThatIsReadInThePageCache) {
  options_["io_direct"] = false;
  const StorePtr store = open();
  const BlockKey key = make_key(4);
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  drop_cached(file_of(key));
  EXPECT_EQ(load_blocks(*store, {key}).value(), 0u);
  EXPECT_TRUE(cached(file_of(key)));
}

TEST_F(PosixPageCacheTest, ABlockInThePageCacheThatIsDamagedIsACountedMissForOneAndForMany) {
  const StorePtr store = open();
  const auto keys = make_keys(0, 4);
  for (const size_t loaded : {1u, 4u}) {
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    std::vector<char> bytes = read_file(file_of(keys[0]));
    bytes[100] ^= 1;
    write_file(file_of(keys[0]), bytes);
    Buffers buffers(store->layout(), loaded);
    const std::vector<BlockKey> some(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(loaded));
    const TaskPtr task = store->load(make_batch(some, {}, buffers));
    EXPECT_EQ(task->wait(kPatience).code(), Code::not_found);
    EXPECT_EQ(task->failed_rows(), std::vector<uint32_t>{0});
    EXPECT_FALSE(std::filesystem::exists(file_of(keys[0])));
  }
  EXPECT_EQ(metric("ucm_dropped_blocks_total", "cause", "checksum"), 2);
}

TEST_F(PosixPageCacheTest, AStoreAnswersForOneBlockThatTheKernelHasBeforeTheCallReturns) {
  const auto store = open_store();
  const BlockKey key = make_key(6);
  ASSERT_TRUE(dump_blocks(*store, {key}).ok());
  const bool here = posix::on_local_disk(root()) && bool{io::File::open_cached(file_of(key))} &&
                    cached(file_of(key));
  Buffers buffers(store->layout(), 1);
  const std::vector<BlockKey> keys{key};
  const TaskPtr task = store->load(make_batch(keys, {}, buffers));
  if (here) {
    EXPECT_TRUE(task->done());
  }
  EXPECT_TRUE(task->wait(kPatience).ok());
  EXPECT_EQ(buffers.wrong_bytes(0, key, 0), 0u);
}

TEST_F(PosixPageCacheTest, AStoreLeavesTheMemoryOfARowAsItWasWhenItsBlockIsDamaged) {
  const auto store = open_store();
  const auto keys = make_keys(0, 3);
  for (const size_t loaded : {1u, 3u}) {
    ASSERT_TRUE(dump_blocks(*store, keys).ok());
    std::vector<char> bytes = read_file(file_of(keys[0]));
    bytes[kBlockBytes - 1] ^= 1;
    write_file(file_of(keys[0]), bytes);
    Buffers buffers(store->layout(), loaded);
    buffers.wipe();
    const std::vector<BlockKey> some(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(loaded));
    EXPECT_EQ(store->load(make_batch(some, {}, buffers))->wait(kPatience).code(), Code::not_found);
    for (size_t i = 0; i < kBlockBytes; ++i) ASSERT_EQ(buffers.piece(0, 0)[i], std::byte{0xEE});
  }
}

}  // namespace
}  // namespace ucm::test
