# SPDX-License-Identifier: Apache-2.0
# ucm_cpp_test(<room> SOURCES x_test.cpp ... LINKS lib ...): one GoogleTest binary per room, linked
# against the rooms themselves so that private headers can be tested; ctest -L '^<room>$' runs it. SIMULATED: platform modules
# come from tests/cpp/sim.
include(GoogleTest)

function(ucm_cpp_test room)
  cmake_parse_arguments(TEST "SIMULATED" "" "SOURCES;LINKS" ${ARGN})
  set(target ucm_${room}_test)
  add_executable(${target} ${TEST_SOURCES})
  target_link_libraries(${target} PRIVATE ucm_static GTest::gtest_main ${TEST_LINKS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/tests/cpp)
  # The platform modules are loaded at run time.
  set(folder ${PROJECT_BINARY_DIR}/lib)
  get_property(platforms GLOBAL PROPERTY UCM_PLATFORM_TARGETS)
  if(TEST_SIMULATED)
    set(folder ${PROJECT_BINARY_DIR}/lib/sim)
    get_property(platforms GLOBAL PROPERTY UCM_SIM_TARGETS)
  endif()
  add_dependencies(${target} ${platforms})
  # Ends what hangs; sanitizers on a busy machine are slow, and no test may fail for that.
  set(patience 120)
  if(UCM_SANITIZE)
    set(patience 400)
  endif()
  gtest_discover_tests(${target} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT ${patience} LABELS ${room} ENVIRONMENT
                       "UCM_PLATFORM_DIR=${folder}")
endfunction()
