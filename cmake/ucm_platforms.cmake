# SPDX-License-Identifier: Apache-2.0
# PLATFORM / UCM_PLATFORMS: which platform modules are built. cpu is always among them; auto adds
# cuda when a toolkit is found that works.

file(GLOB platform_folders LIST_DIRECTORIES true RELATIVE ${PROJECT_SOURCE_DIR}/platforms
     ${PROJECT_SOURCE_DIR}/platforms/*)
set(UCM_KNOWN_PLATFORMS "")
foreach(folder IN LISTS platform_folders)
  if(EXISTS ${PROJECT_SOURCE_DIR}/platforms/${folder}/CMakeLists.txt)
    list(APPEND UCM_KNOWN_PLATFORMS ${folder})
  endif()
endforeach()

string(REPLACE "," ";" wanted "${UCM_PLATFORMS}")
if("auto" IN_LIST wanted)
  list(REMOVE_ITEM wanted auto)
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    list(APPEND wanted cuda)
  else()
    message(STATUS "ucm: no working nvcc found, cuda is not built")
  endif()
endif()
list(APPEND wanted cpu)
list(REMOVE_DUPLICATES wanted)
list(JOIN UCM_KNOWN_PLATFORMS ", " known)
foreach(platform IN LISTS wanted)
  if(NOT platform IN_LIST UCM_KNOWN_PLATFORMS)
    message(FATAL_ERROR "PLATFORM=${platform} is not a platform of this version of ucm. Known: ${known}. "
                        "Set PLATFORM to one of them, or leave it unset for cpu, and cuda where nvcc is found.")
  endif()
  add_subdirectory(platforms/${platform})
endforeach()
