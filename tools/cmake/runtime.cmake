# Decides whether the runtime is built: sets COUNTERFLOW_WITH_RUNTIME.
#
# The autograd graph that the runtime takes apart is libtorch's own business, which changes from version to version:
# only those that the tests have run with are taken.
set(COUNTERFLOW_LIBTORCH_VERSIONS 2.11...<2.12)

set(COUNTERFLOW_WITH_RUNTIME OFF)
if(NOT COUNTERFLOW_BUILD_RUNTIME STREQUAL "OFF")
  list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
  find_package(Libtorch ${COUNTERFLOW_LIBTORCH_VERSIONS} QUIET)
  find_package(spdlog QUIET)
  if(Libtorch_FOUND AND spdlog_FOUND)
    set(COUNTERFLOW_WITH_RUNTIME ON)
    set(why "libtorch ${Libtorch_VERSION} in ${Libtorch_PREFIX}")
  elseif(Libtorch_FOUND)
    set(why "no spdlog was found (Debian: libspdlog-dev)")
  elseif(Libtorch_VERSION)
    set(why "libtorch in ${Libtorch_PREFIX} is ${Libtorch_VERSION}, supported is ${COUNTERFLOW_LIBTORCH_VERSIONS}")
  else()
    string(CONCAT why "no libtorch was found: name one with Torch_DIR, CMAKE_PREFIX_PATH or Libtorch_ROOT, or have a "
                      "python3 with torch first on PATH")
  endif()
  if(COUNTERFLOW_WITH_RUNTIME)
    message(STATUS "Counterflow's runtime: ${why}")
  elseif(COUNTERFLOW_BUILD_RUNTIME STREQUAL "AUTO")
    message(STATUS "Counterflow's runtime is left out: ${why}")
  else()
    message(FATAL_ERROR "COUNTERFLOW_BUILD_RUNTIME is ${COUNTERFLOW_BUILD_RUNTIME}, but ${why}")
  endif()
endif()
