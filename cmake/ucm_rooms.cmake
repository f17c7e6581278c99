# SPDX-License-Identifier: Apache-2.0
# The rooms of the C++ house: one object library each, linking only the rooms below it.

add_library(ucm_build_flags INTERFACE)
target_compile_features(ucm_build_flags INTERFACE cxx_std_20)
# GCC 12 sees overlapping copies in every `"text" + string`.
target_compile_options(
  ucm_build_flags INTERFACE "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wno-unused-parameter>"
                            $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-restrict>
                            $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<BOOL:${UCM_WERROR}>>:-Werror>)
target_include_directories(
  ucm_build_flags INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                            $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>)
if(UCM_SANITIZE)
  target_compile_options(ucm_build_flags INTERFACE -fsanitize=${UCM_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(ucm_build_flags INTERFACE -fsanitize=${UCM_SANITIZE})
endif()
if(UCM_LIBFUZZER)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "UCM_LIBFUZZER needs Clang with its runtimes (clang-14, libclang-rt-14-dev). Set CXX=clang++-14")
  endif()
  target_compile_options(ucm_build_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# ucm_room(<name> SOURCES a.cpp ... DEPENDS room ... LINKS lib ...)
function(ucm_room name)
  cmake_parse_arguments(ROOM "" "" "SOURCES;DEPENDS;LINKS" ${ARGN})
  add_library(ucm_${name} OBJECT ${ROOM_SOURCES})
  set_target_properties(ucm_${name} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden
                                               VISIBILITY_INLINES_HIDDEN ON)
  target_link_libraries(ucm_${name} PUBLIC ucm_build_flags ${ROOM_LINKS})
  # Only usage requirements of lower rooms are taken over: their objects enter libucm once.
  foreach(room IN LISTS ROOM_DEPENDS)
    add_dependencies(ucm_${name} ucm_${room})
  endforeach()
  set_property(GLOBAL APPEND PROPERTY UCM_ROOMS ucm_${name})
  set_property(GLOBAL APPEND PROPERTY UCM_ROOM_LINKS ${ROOM_LINKS})
endfunction()

# ucm_stage(<name> SOURCES ... DEPENDS ...): a room that also exports `<name>_stage_entry`.
function(ucm_stage name)
  ucm_room(stage_${name} ${ARGN})
  set_property(GLOBAL APPEND PROPERTY UCM_STAGES ${name})
endfunction()

# Every folder of src/stages is a stage; the table of them is generated.
function(ucm_discover_stages)
  file(GLOB folders LIST_DIRECTORIES true CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/stages/*)
  foreach(folder IN LISTS folders)
    if(EXISTS ${folder}/CMakeLists.txt)
      add_subdirectory(${folder})
    endif()
  endforeach()
  get_property(stages GLOBAL PROPERTY UCM_STAGES)
  set(declarations "")
  set(entries "")
  foreach(stage IN LISTS stages)
    string(APPEND declarations "extern const StageEntry ${stage}_stage_entry;\n")
    string(APPEND entries "      &${stage}_stage_entry,\n")
  endforeach()
  configure_file(${PROJECT_SOURCE_DIR}/cmake/stage_table.cpp.in ${PROJECT_BINARY_DIR}/stage_table.cpp @ONLY)
  ucm_room(stage_table SOURCES ${PROJECT_BINARY_DIR}/stage_table.cpp DEPENDS store)
endfunction()

# Every folder of platforms/ named in UCM_PLATFORMS becomes libucm_<name>.so beside libucm.so.
function(ucm_platform name)
  cmake_parse_arguments(PLATFORM "" "" "SOURCES;LINKS" ${ARGN})
  add_library(ucm_platform_${name} MODULE ${PLATFORM_SOURCES})
  target_link_libraries(ucm_platform_${name} PRIVATE ucm_build_flags ucm ${PLATFORM_LINKS})
  set_target_properties(
    ucm_platform_${name}
    PROPERTIES OUTPUT_NAME ucm_${name} CXX_VISIBILITY_PRESET hidden INSTALL_RPATH "$ORIGIN"
               LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib)
  set_property(GLOBAL APPEND PROPERTY UCM_PLATFORM_TARGETS ucm_platform_${name})
endfunction()
