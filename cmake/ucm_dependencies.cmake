# SPDX-License-Identifier: Apache-2.0
# System libraries. What is missing stops the configure step with the line that installs it.

find_package(Threads REQUIRED)
find_package(PkgConfig)

function(ucm_missing part debian openeuler)
  message(
    FATAL_ERROR
      "ucm needs ${part}, which was not found. Install it with\n"
      "  Debian/Ubuntu:  apt-get install ${debian}\n" "  openEuler:      dnf install ${openeuler}\n"
      "and configure again in an empty build folder.")
endfunction()

if(NOT PkgConfig_FOUND)
  ucm_missing("pkg-config" pkg-config pkgconf)
endif()

pkg_check_modules(XXHASH QUIET IMPORTED_TARGET libxxhash>=0.8)
if(NOT XXHASH_FOUND)
  ucm_missing("the xxHash header (libxxhash >= 0.8)" libxxhash-dev xxhash-devel)
endif()
# Header-only use: the digest code is inlined, nothing is linked.
add_library(ucm_xxhash INTERFACE)
target_include_directories(ucm_xxhash SYSTEM INTERFACE ${XXHASH_INCLUDE_DIRS})

add_library(ucm_uring INTERFACE)
set(UCM_HAVE_URING OFF)
if(NOT UCM_URING STREQUAL "OFF")
  pkg_check_modules(URING QUIET liburing>=2.2)
  if(URING_FOUND)
    find_library(UCM_URING_LIBRARY NAMES liburing.a uring HINTS ${URING_LIBRARY_DIRS})
    target_include_directories(ucm_uring SYSTEM INTERFACE ${URING_INCLUDE_DIRS})
    target_link_libraries(ucm_uring INTERFACE ${UCM_URING_LIBRARY})
    target_compile_definitions(ucm_uring INTERFACE UCM_HAVE_URING=1)
    set(UCM_HAVE_URING ON)
  elseif(UCM_URING STREQUAL "ON")
    ucm_missing("liburing >= 2.2 (UCM_URING=ON)" liburing-dev liburing-devel)
  else()
    message(STATUS "ucm: liburing not found, disks are read by threads. For io_uring: "
                   "apt-get install liburing-dev | dnf install liburing-devel")
  endif()
endif()

if(UCM_TESTS OR UCM_GPU_TESTS)
  find_package(GTest)
  if(NOT GTest_FOUND)
    ucm_missing("GoogleTest (UCM_TESTS=ON)" libgtest-dev gtest-devel)
  endif()
endif()
