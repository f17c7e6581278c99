// SPDX-License-Identifier: Apache-2.0
#include "acl_generations.h"

#include <dlfcn.h>

namespace ucm {
namespace {

template <typename Function>
void look_up(void* library, const char* name, Function** function) {
  *function = reinterpret_cast<Function*>(dlsym(library, name));
}

}  // namespace

AclGenerations AclGenerations::find() {
  AclGenerations found;
  Dl_info where;
  if (dladdr(reinterpret_cast<const void*>(&aclrtMemcpyAsync), &where) == 0) return found;
  void* library = dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  if (!library) return found;
  look_up(library, "aclrtHostRegister", &found.host_register);
  look_up(library, "aclrtHostRegisterV2", &found.host_register_v2);
  look_up(library, "aclrtHostUnregister", &found.host_unregister);
  look_up(library, "aclrtMemcpyBatchAsync", &found.batch);
  look_up(library, "aclrtMemcpyBatchAsyncV2", &found.batch_v2);
  dlclose(library);  // this module keeps it loaded
  return found;
}

}  // namespace ucm
