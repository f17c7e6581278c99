# SPDX-License-Identifier: Apache-2.0
# libucm.so from all rooms, and a static twin with visible internals for the tests.

get_property(rooms GLOBAL PROPERTY UCM_ROOMS)
get_property(links GLOBAL PROPERTY UCM_ROOM_LINKS)
list(REMOVE_DUPLICATES links)
set(objects "")
foreach(room IN LISTS rooms)
  list(APPEND objects $<TARGET_OBJECTS:${room}>)
endforeach()

add_library(ucm SHARED ${objects})
add_library(ucm::ucm ALIAS ucm)
target_include_directories(ucm PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                      $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(ucm PUBLIC cxx_std_20)
target_link_libraries(ucm PRIVATE Threads::Threads ${CMAKE_DL_LIBS} ${links})
if(UCM_SANITIZE)
  target_link_options(ucm PUBLIC -fsanitize=${UCM_SANITIZE})
endif()
set_target_properties(
  ucm PROPERTIES INSTALL_RPATH "$ORIGIN" LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib SOVERSION
                 ${PROJECT_VERSION_MAJOR} VERSION ${PROJECT_VERSION})

if(UCM_TESTS OR UCM_GPU_TESTS)
  add_library(ucm_static STATIC ${objects})
  target_link_libraries(ucm_static PUBLIC ucm_build_flags Threads::Threads ${CMAKE_DL_LIBS} ${links})
endif()
