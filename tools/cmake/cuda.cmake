# Decides whether ranks on GPUs are built (transfers over NCCL, steps as CUDA graphs): sets COUNTERFLOW_WITH_CUDA.
#
# Everything has to fit the libtorch that was found, so what lies beside it (its Python packages' own CUDA
# libraries) is taken before what the system has. Makes the imported target Libtorch::cuda.

set(COUNTERFLOW_WITH_CUDA OFF)
if(COUNTERFLOW_WITH_RUNTIME AND NOT COUNTERFLOW_BUILD_CUDA STREQUAL "OFF")
  set(_nvidia "${Libtorch_PREFIX}/../nvidia")
  set(_toolkit "${CUDAToolkit_ROOT}" "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" /usr/local/cuda)
  find_library(Libtorch_CUDA_LIBRARY torch_cuda PATHS "${Libtorch_PREFIX}/lib" NO_DEFAULT_PATH)
  find_library(Libtorch_C10_CUDA_LIBRARY c10_cuda PATHS "${Libtorch_PREFIX}/lib" NO_DEFAULT_PATH)
  # The toolkit has the headers that libtorch's own include; the Python packages have only some of them.
  find_path(COUNTERFLOW_CUDA_HEADERS cusparse.h HINTS ${_toolkit} PATHS "${_nvidia}/cu13" PATH_SUFFIXES include)
  find_library(COUNTERFLOW_CUDART_LIBRARY NAMES libcudart.so.13 cudart HINTS "${_nvidia}/cu13/lib" ${_toolkit}
               PATH_SUFFIXES lib64 lib)
  find_path(COUNTERFLOW_NCCL_HEADERS nccl.h HINTS "${_nvidia}/nccl" ${_toolkit} PATH_SUFFIXES include)
  find_library(COUNTERFLOW_NCCL_LIBRARY NAMES libnccl.so.2 nccl HINTS "${_nvidia}/nccl/lib" ${_toolkit}
               PATH_SUFFIXES lib64 lib)
  mark_as_advanced(Libtorch_CUDA_LIBRARY Libtorch_C10_CUDA_LIBRARY COUNTERFLOW_CUDA_HEADERS
                   COUNTERFLOW_CUDART_LIBRARY COUNTERFLOW_NCCL_HEADERS COUNTERFLOW_NCCL_LIBRARY)

  set(_missing "")
  foreach(thing IN ITEMS Libtorch_CUDA_LIBRARY Libtorch_C10_CUDA_LIBRARY COUNTERFLOW_CUDA_HEADERS
                         COUNTERFLOW_CUDART_LIBRARY COUNTERFLOW_NCCL_HEADERS COUNTERFLOW_NCCL_LIBRARY)
    if(NOT ${thing})
      string(REGEX REPLACE "^COUNTERFLOW_" "" _name "${thing}")
      list(APPEND _missing "${_name}")
    endif()
  endforeach()
  list(JOIN _missing ", " _missing)
  if(_missing STREQUAL "")
    set(COUNTERFLOW_WITH_CUDA ON)
    message(STATUS "Counterflow on GPUs: CUDA in ${COUNTERFLOW_CUDA_HEADERS}, NCCL in ${COUNTERFLOW_NCCL_HEADERS}")
  elseif(COUNTERFLOW_BUILD_CUDA STREQUAL "AUTO")
    message(STATUS "Counterflow on GPUs is left out: not found: ${_missing}")
  else()
    message(FATAL_ERROR "COUNTERFLOW_BUILD_CUDA is ${COUNTERFLOW_BUILD_CUDA}, but not found: ${_missing}")
  endif()
endif()

if(COUNTERFLOW_WITH_CUDA AND NOT TARGET Libtorch::cuda)
  add_library(Libtorch::cuda SHARED IMPORTED)
  # What libtorch_cuda itself needs is found by its own RPATH when it is loaded.
  set_target_properties(Libtorch::cuda PROPERTIES
    IMPORTED_LOCATION "${Libtorch_CUDA_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${COUNTERFLOW_CUDA_HEADERS};${COUNTERFLOW_NCCL_HEADERS}"
    INTERFACE_LINK_LIBRARIES
      "Libtorch::cpu;${Libtorch_C10_CUDA_LIBRARY};${COUNTERFLOW_CUDART_LIBRARY};${COUNTERFLOW_NCCL_LIBRARY}"
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined;LINKER:--no-as-needed")
endif()
