# SPDX-License-Identifier: Apache-2.0
# ucm_cpp_test(<room> SOURCES x_test.cpp ...): one GoogleTest binary per room, linked against the
# rooms themselves so that private headers can be tested.
include(GoogleTest)

function(ucm_cpp_test room)
  cmake_parse_arguments(TEST "" "" "SOURCES;LINKS" ${ARGN})
  set(target ucm_${room}_test)
  add_executable(${target} ${TEST_SOURCES})
  target_link_libraries(${target} PRIVATE ucm_static GTest::gtest_main ${TEST_LINKS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/cpp)
  # The platform modules are loaded at run time.
  get_property(platforms GLOBAL PROPERTY UCM_PLATFORM_TARGETS)
  add_dependencies(${target} ${platforms})
  gtest_discover_tests(${target} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 120 ENVIRONMENT
                       "UCM_PLATFORM_DIR=${PROJECT_BINARY_DIR}/lib")
endfunction()
