# SPDX-License-Identifier: Apache-2.0
# In a wheel everything lies in the package folder; elsewhere in the usual prefix folders with a
# package file, so that `find_package(ucm)` gives `ucm::ucm`.

get_property(platforms GLOBAL PROPERTY UCM_PLATFORM_TARGETS)
if(SKBUILD)
  install(TARGETS ucm ${platforms} LIBRARY DESTINATION ucm NAMELINK_SKIP)
else()
  include(CMakePackageConfigHelpers)
  install(DIRECTORY include/ucm DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
  install(TARGETS ucm EXPORT ucm-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS ${platforms} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT ucm-targets NAMESPACE ucm:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ucm)
  configure_package_config_file(cmake/ucm-config.cmake.in ${PROJECT_BINARY_DIR}/ucm-config.cmake
                                INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ucm)
  write_basic_package_version_file(${PROJECT_BINARY_DIR}/ucm-config-version.cmake
                                   COMPATIBILITY SameMinorVersion)
  install(FILES ${PROJECT_BINARY_DIR}/ucm-config.cmake ${PROJECT_BINARY_DIR}/ucm-config-version.cmake
          DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/ucm)
endif()
