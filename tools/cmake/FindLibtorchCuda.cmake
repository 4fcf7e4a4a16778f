# Finds what ranks on GPUs are built with: the CUDA half of the libtorch that was found, CUDA and NCCL.
#
# Everything has to fit that libtorch, so what lies beside it (its Python packages' own CUDA libraries) is taken
# before what the system has. Makes the imported target Libtorch::cuda.
set(_nvidia "${Libtorch_PREFIX}/../nvidia")
set(_toolkit "${CUDAToolkit_ROOT}" "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}" /usr/local/cuda)
find_library(LibtorchCuda_LIBRARY torch_cuda PATHS "${Libtorch_PREFIX}/lib" NO_DEFAULT_PATH)
find_library(LibtorchCuda_C10_LIBRARY c10_cuda PATHS "${Libtorch_PREFIX}/lib" NO_DEFAULT_PATH)
# The toolkit has the headers that libtorch's own include; the Python packages have only some of them.
find_path(LibtorchCuda_CUDA_HEADERS cusparse.h HINTS ${_toolkit} PATHS "${_nvidia}/cu13" PATH_SUFFIXES include)
find_library(LibtorchCuda_CUDART NAMES libcudart.so.13 cudart HINTS "${_nvidia}/cu13/lib" ${_toolkit}
             PATH_SUFFIXES lib64 lib)
find_path(LibtorchCuda_NCCL_HEADERS nccl.h HINTS "${_nvidia}/nccl" ${_toolkit} PATH_SUFFIXES include)
find_library(LibtorchCuda_NCCL NAMES libnccl.so.2 nccl HINTS "${_nvidia}/nccl/lib" ${_toolkit}
             PATH_SUFFIXES lib64 lib)

set(_needed LibtorchCuda_LIBRARY LibtorchCuda_C10_LIBRARY LibtorchCuda_CUDA_HEADERS LibtorchCuda_CUDART
            LibtorchCuda_NCCL_HEADERS LibtorchCuda_NCCL)
mark_as_advanced(${_needed})
set(LibtorchCuda_MISSING "")
foreach(_thing IN LISTS _needed)
  if(NOT ${_thing})
    string(REPLACE "LibtorchCuda_" "" _name "${_thing}")
    list(APPEND LibtorchCuda_MISSING "${_name}")
  endif()
endforeach()
list(JOIN LibtorchCuda_MISSING ", " LibtorchCuda_MISSING)

include(FindPackageHandleStandardArgs)
set(LibtorchCuda_FIND_QUIETLY TRUE)
find_package_handle_standard_args(LibtorchCuda REQUIRED_VARS ${_needed})

if(LibtorchCuda_FOUND AND NOT TARGET Libtorch::cuda)
  add_library(Libtorch::cuda SHARED IMPORTED)
  # What libtorch_cuda itself needs is found by its own RPATH when it is loaded.
  set_target_properties(Libtorch::cuda PROPERTIES
    IMPORTED_LOCATION "${LibtorchCuda_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${LibtorchCuda_CUDA_HEADERS};${LibtorchCuda_NCCL_HEADERS}"
    INTERFACE_LINK_LIBRARIES
      "Libtorch::cpu;${LibtorchCuda_C10_LIBRARY};${LibtorchCuda_CUDART};${LibtorchCuda_NCCL}"
    INTERFACE_LINK_OPTIONS "LINKER:--allow-shlib-undefined;LINKER:--no-as-needed")
endif()
