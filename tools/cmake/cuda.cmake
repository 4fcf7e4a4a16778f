# Decides whether ranks on GPUs are built (transfers by NCCL and the copy engines, steps as CUDA graphs): sets
# COUNTERFLOW_WITH_CUDA.
set(COUNTERFLOW_WITH_CUDA OFF)
if(COUNTERFLOW_WITH_RUNTIME AND NOT COUNTERFLOW_BUILD_CUDA STREQUAL "OFF")
  list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})
  find_package(LibtorchCuda)
  if(LibtorchCuda_FOUND)
    set(COUNTERFLOW_WITH_CUDA ON)
    message(STATUS "Counterflow on GPUs: CUDA in ${LibtorchCuda_CUDA_HEADERS}, "
                   "NCCL in ${LibtorchCuda_NCCL_HEADERS}")
  elseif(COUNTERFLOW_BUILD_CUDA STREQUAL "AUTO")
    message(STATUS "Counterflow on GPUs is left out: not found: ${LibtorchCuda_MISSING}")
  else()
    message(FATAL_ERROR "COUNTERFLOW_BUILD_CUDA is ${COUNTERFLOW_BUILD_CUDA}, but not found: "
                        "${LibtorchCuda_MISSING}")
  endif()
endif()
