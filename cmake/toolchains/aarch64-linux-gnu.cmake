# SPDX-License-Identifier: Apache-2.0
# Debian's cross compiler; libraries of the target from UCM_ARM64_SYSROOT (unpacked Debian packages, see
# tests/setup.sh). Tests run under qemu; UCM_QEMU_FLAGS is read at run time, e.g. "-p 65536".
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(UCM_ARM64_SYSROOT "" CACHE PATH "Folder with usr/include and usr/lib/aarch64-linux-gnu")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES UCM_ARM64_SYSROOT)
set(ENV{PKG_CONFIG_LIBDIR} ${UCM_ARM64_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${UCM_ARM64_SYSROOT})
list(APPEND CMAKE_PREFIX_PATH ${UCM_ARM64_SYSROOT}/usr)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH ${UCM_ARM64_SYSROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE BOTH)
set(CMAKE_CROSSCOMPILING_EMULATOR ${CMAKE_CURRENT_LIST_DIR}/qemu-aarch64.sh)
