// SPDX-License-Identifier: Apache-2.0
#pragma once

// The one place of the version: CMake and pyproject.toml read it from here.
#define UCM_VERSION "0.1.0"
#define UCM_VERSION_MAJOR 0
#define UCM_VERSION_MINOR 1
#define UCM_VERSION_PATCH 0

// Visibility of the C++ interface of libucm.
#define UCM_API __attribute__((visibility("default")))
