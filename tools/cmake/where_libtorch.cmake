# Prints the folder of the libtorch that a configuration would find, or why there is none that will do:
#   cmake [-DTorch_DIR=... ...] -P tools/cmake/where_libtorch.cmake
# Prints "found FOLDER", "unsupported REASON" or "none".
cmake_minimum_required(VERSION 3.25)
include(${CMAKE_CURRENT_LIST_DIR}/libtorch_versions.cmake)
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
set(CMAKE_FIND_LIBRARY_PREFIXES lib)
set(CMAKE_FIND_LIBRARY_SUFFIXES .so .dylib)
find_package(Libtorch ${COUNTERFLOW_LIBTORCH_VERSIONS} QUIET)
if(Libtorch_FOUND)
  set(answer "found ${Libtorch_PREFIX}")
elseif(Libtorch_VERSION)
  set(answer "unsupported libtorch in ${Libtorch_PREFIX} is ${Libtorch_VERSION}, supported is ${COUNTERFLOW_LIBTORCH_VERSIONS}")
else()
  set(answer "none")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E echo "${answer}")
