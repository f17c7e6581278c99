// SPDX-License-Identifier: Apache-2.0
#include "pages/reader_store.h"
#include "pages/writer_store.h"
#include "ucm/pages.h"

namespace ucm {
namespace {

// Transfers under way keep the store itself alive, so the caller's pointer closes it: threads must
// never be the last ones to let go.
template <typename Store>
std::shared_ptr<PageStore> closing_pointer(std::shared_ptr<Store> store) {
  PageStore* const address = store.get();
  return std::shared_ptr<PageStore>(
      address, [store = std::move(store)](PageStore*) { store->close(std::chrono::seconds(10)); });
}

}  // namespace

Result<std::shared_ptr<PageStore>> PageStore::open(const PageStoreOptions& options) {
  if (options.read_only) {
    UCM_TRY_ASSIGN(auto reader, pages::ReaderStore::open(options));
    return closing_pointer(std::move(reader));
  }
  UCM_TRY_ASSIGN(auto writer, pages::WriterStore::open(options));
  return closing_pointer(std::move(writer));
}

}  // namespace ucm
