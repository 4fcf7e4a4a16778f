# Finds libtorch's headers and CPU libraries without its own package file.
#
# The package file of a CUDA build asks for the CUDA toolkit and for libraries that a CPU program never calls. This
# module only looks where libtorch is and makes two imported targets:
#
#   Libtorch::c10, Libtorch::cpu   (libc10, libtorch_cpu)
#
# It looks, in this order, in Libtorch_ROOT, above Torch_DIR, in CMAKE_PREFIX_PATH (each also from the environment), in
# what tools/libtorch has fetched, and beside the Python package `torch` of the first python3 on PATH (which need not be
# importable: a wheel without its CUDA packages will do).
# Sets Libtorch_FOUND, Libtorch_VERSION, Libtorch_INCLUDE_DIRS and Libtorch_PREFIX.

set(_libtorch_hints "")
if(NOT Torch_DIR AND DEFINED ENV{Torch_DIR})
  file(TO_CMAKE_PATH "$ENV{Torch_DIR}" Torch_DIR)
endif()
if(Torch_DIR)
  list(APPEND _libtorch_hints "${Torch_DIR}/../../..")
endif()
if(NOT Libtorch_ROOT AND NOT Torch_DIR)
  find_program(Libtorch_PYTHON NAMES python3 python)
  mark_as_advanced(Libtorch_PYTHON)
  if(Libtorch_PYTHON)
    execute_process(
      COMMAND "${Libtorch_PYTHON}" -c
              "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE _libtorch_package OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()

# CMAKE_PREFIX_PATH may hold libtorch itself or the folder share/cmake inside it (torch.utils.cmake_prefix_path).
set(_libtorch_above "")
file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" _libtorch_prefixes)
foreach(prefix IN LISTS CMAKE_PREFIX_PATH _libtorch_prefixes)
  list(APPEND _libtorch_above "${prefix}/../..")
endforeach()

find_path(Libtorch_HEADERS torch/csrc/autograd/engine.h
          HINTS ${_libtorch_hints}
          PATHS ${_libtorch_above} "${CMAKE_CURRENT_LIST_DIR}/../../.cache/libtorch/torch" "${_libtorch_package}"
          PATH_SUFFIXES include)
mark_as_advanced(Libtorch_HEADERS)
if(Libtorch_HEADERS)
  get_filename_component(Libtorch_PREFIX "${Libtorch_HEADERS}" DIRECTORY)
  find_library(Libtorch_CPU_LIBRARY torch_cpu PATHS "${Libtorch_PREFIX}/lib" NO_DEFAULT_PATH)
  find_library(Libtorch_C10_LIBRARY c10 PATHS "${Libtorch_PREFIX}/lib" NO_DEFAULT_PATH)
  mark_as_advanced(Libtorch_CPU_LIBRARY Libtorch_C10_LIBRARY)
  foreach(header IN ITEMS torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(NOT Libtorch_VERSION AND EXISTS "${Libtorch_HEADERS}/${header}")
      file(STRINGS "${Libtorch_HEADERS}/${header}" _libtorch_numbers
           REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+$")
      string(REGEX REPLACE "[^;0-9]" "" Libtorch_VERSION "${_libtorch_numbers}")
      string(REPLACE ";" "." Libtorch_VERSION "${Libtorch_VERSION}")
    endif()
  endforeach()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_CPU_LIBRARY Libtorch_C10_LIBRARY Libtorch_HEADERS
  VERSION_VAR Libtorch_VERSION HANDLE_VERSION_RANGE)

if(Libtorch_FOUND AND NOT CMAKE_SCRIPT_MODE_FILE)
  set(Libtorch_INCLUDE_DIRS "${Libtorch_HEADERS}" "${Libtorch_HEADERS}/torch/csrc/api/include")
  if(NOT TARGET Libtorch::cpu)
    add_library(Libtorch::c10 SHARED IMPORTED)
    set_target_properties(Libtorch::c10 PROPERTIES
      IMPORTED_LOCATION "${Libtorch_C10_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${Libtorch_INCLUDE_DIRS}")
    add_library(Libtorch::cpu SHARED IMPORTED)
    # The CUDA libraries that a CUDA build's libtorch_cpu names are found by its own RPATH when it is loaded.
    set_target_properties(Libtorch::cpu PROPERTIES
      IMPORTED_LOCATION "${Libtorch_CPU_LIBRARY}"
      INTERFACE_LINK_LIBRARIES "Libtorch::c10"
      INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined")
  endif()
endif()
