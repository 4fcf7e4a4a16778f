# What `cmake --install` lays down: headers, libraries, the command, and what CMake's find_package and
# pkg-config need to find them again. Everything is relative to the prefix, so that it may be moved.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/counterflow)

# Each component of find_package(counterflow COMPONENTS ...) has its own export.
install(TARGETS counterflow_schedule EXPORT counterflow-schedule FILE_SET HEADERS)
install(EXPORT counterflow-schedule NAMESPACE counterflow:: DESTINATION ${package_dir})
if(TARGET counterflow_command)
  set_target_properties(counterflow_command PROPERTIES EXPORT_NAME command)
  install(TARGETS counterflow_command EXPORT counterflow-command)
  install(EXPORT counterflow-command NAMESPACE counterflow:: DESTINATION ${package_dir})
endif()
if(TARGET counterflow_runtime)
  install(TARGETS counterflow_runtime EXPORT counterflow-runtime FILE_SET HEADERS)
  install(EXPORT counterflow-runtime NAMESPACE counterflow:: DESTINATION ${package_dir})
  install(FILES ${CMAKE_CURRENT_LIST_DIR}/FindLibtorch.cmake DESTINATION ${package_dir})
endif()
if(TARGET counterflow_cuda)
  install(TARGETS counterflow_cuda EXPORT counterflow-cuda FILE_SET HEADERS)
  install(EXPORT counterflow-cuda NAMESPACE counterflow:: DESTINATION ${package_dir})
  install(FILES ${CMAKE_CURRENT_LIST_DIR}/FindLibtorchCuda.cmake DESTINATION ${package_dir})
endif()
if(TARGET counterflow_mpi)
  install(TARGETS counterflow_mpi EXPORT counterflow-mpi FILE_SET HEADERS)
  install(EXPORT counterflow-mpi NAMESPACE counterflow:: DESTINATION ${package_dir})
endif()

set(schedules_dir ${CMAKE_INSTALL_DATADIR}/counterflow/schedules)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/schedules/ DESTINATION ${schedules_dir})

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/counterflowConfig.cmake.in counterflowConfig.cmake
                              INSTALL_DESTINATION ${package_dir} PATH_VARS schedules_dir)
write_basic_package_version_file(counterflowConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/counterflowConfig.cmake
              ${PROJECT_BINARY_DIR}/counterflowConfigVersion.cmake
              ${CMAKE_CURRENT_LIST_DIR}/counterflow_add_bubble_test.cmake
              ${CMAKE_CURRENT_LIST_DIR}/counterflow_run_bubble_test.cmake
        DESTINATION ${package_dir})

# pkg-config works out the prefix from where the file lies.
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(${CMAKE_CURRENT_LIST_DIR}/counterflow-schedule.pc.in counterflow-schedule.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/counterflow-schedule.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
