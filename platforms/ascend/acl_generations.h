// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <acl/acl_rt.h>

#include "ucm/status.h"

// Entry points that exist in some generations of CANN only, or that its headers turn into
// templates: looked up in the library that is loaded.
namespace ucm {

using AclHostRegister = aclError(void*, uint64_t, aclrtHostRegisterType, void**);
using AclHostRegisterV2 = aclError(void*, uint64_t, uint32_t);
using AclHostUnregister = aclError(void*);
using AclMemcpyBatch = aclError(void**, size_t*, void**, size_t*, size_t, aclrtMemcpyBatchAttr*,
                                size_t*, size_t, size_t*, aclrtStream);
using AclMemcpyBatchV2 = aclError(void**, size_t*, void**, size_t*, size_t, aclrtMemcpyBatchAttr*,
                                  size_t*, size_t, aclrtStream);

struct AclGenerations {
  static AclGenerations find();

  AclHostRegister* host_register = nullptr;
  AclHostRegisterV2* host_register_v2 = nullptr;
  AclHostUnregister* host_unregister = nullptr;
  AclMemcpyBatch* batch = nullptr;       // with a fail index
  AclMemcpyBatchV2* batch_v2 = nullptr;  // without
};

}  // namespace ucm
