// Numbers in memory that the fake device's streams write and wait for, as CUDA's driver has it, and memory of
// the host for them.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "fake_device.h"
#include "fake_peers.h"
#include "misuse.h"

namespace {

namespace fake = counterflow::fake;

volatile std::uint32_t* number_at(CUdeviceptr address) {
  return reinterpret_cast<volatile std::uint32_t*>(address);
}

CUresult result_of(cudaError_t error) {
  return error == cudaSuccess ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
}

CUresult write_value(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned int) {
  const auto write = [number = number_at(address), value] {
    if (fake::is_own(const_cast<const std::uint32_t*>(number)))
      *number = value;
    else
      fake::note_misuse("a stream writes a number to a peer's memory, where it does not arrive");
    return true;
  };
  return result_of(fake::enqueue(stream, write, {reinterpret_cast<const void*>(address)}));
}

CUresult wait_value(CUstream stream, CUdeviceptr address, cuuint32_t value, unsigned int flags) {
  if (flags != CU_STREAM_WAIT_VALUE_EQ) return CUDA_ERROR_NOT_SUPPORTED;
  const auto wait = [number = number_at(address), value] { return *number == value; };
  return result_of(fake::enqueue(stream, wait, {reinterpret_cast<const void*>(address)}));
}

CUresult batch(CUstream stream, unsigned int count, CUstreamBatchMemOpParams* operations, unsigned int) {
  for (const CUstreamBatchMemOpParams* at = operations; at != operations + count; ++at) {
    const CUresult result =
        at->operation == CU_STREAM_MEM_OP_WAIT_VALUE_32
            ? wait_value(stream, at->waitValue.address, at->waitValue.value, at->waitValue.flags)
        : at->operation == CU_STREAM_MEM_OP_WRITE_VALUE_32
            ? write_value(stream, at->writeValue.address, at->writeValue.value, at->writeValue.flags)
            : CUDA_ERROR_NOT_SUPPORTED;
    if (result != CUDA_SUCCESS) return result;
  }
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned int,
                                             unsigned long long, cudaDriverEntryPointQueryResult* result) {
  *function = name == std::string_view("cuStreamWriteValue32")  ? reinterpret_cast<void*>(&write_value)
              : name == std::string_view("cuStreamWaitValue32") ? reinterpret_cast<void*>(&wait_value)
              : name == std::string_view("cuStreamBatchMemOp")  ? reinterpret_cast<void*>(&batch)
                                                                : nullptr;
  *result = *function == nullptr ? cudaDriverEntryPointSymbolNotFound : cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned int) {
  *memory = std::calloc(1, bytes);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void** on_device, void* memory, unsigned int) {
  *on_device = memory;
  return cudaSuccess;
}

cudaError_t cudaHostRegister(void*, std::size_t, unsigned int) {
  return fake::peer_faults().no_host_memory ? cudaErrorNotSupported : cudaSuccess;
}

cudaError_t cudaHostUnregister(void*) {
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* memory) {
  std::free(memory);
  return cudaSuccess;
}

}  // extern "C"
