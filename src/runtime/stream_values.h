// Numbers in memory that a stream writes and waits for by itself, in a recorded step too.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <string>

#include "counterflow/runtime/error.h"
#include "cuda_event.h"

namespace counterflow::runtime {

/// The driver's operations, found at run time: nothing needs to be linked with the driver. Throws
/// TransportError where it has none.
class StreamValues {
 public:
  StreamValues() {
    find("cuStreamWaitValue32", wait_);
    find("cuStreamWriteValue32", write_);
  }

  /// At an address that the device can reach: its own memory's, or mapped host memory's.
  void wait_for(cudaStream_t stream, const void* address, std::uint32_t value) const {
    check(wait_(stream, to_device(address), value, CU_STREAM_WAIT_VALUE_EQ), "cuStreamWaitValue32");
  }
  void write(cudaStream_t stream, void* address, std::uint32_t value) const {
    check(write_(stream, to_device(address), value, CU_STREAM_WRITE_VALUE_DEFAULT), "cuStreamWriteValue32");
  }

 private:
  static CUdeviceptr to_device(const void* address) { return reinterpret_cast<CUdeviceptr>(address); }

  static void check(CUresult status, const char* what) {
    if (status != CUDA_SUCCESS) throw TransportError(std::string(what) + ": error " + std::to_string(status));
  }

  template <class Function>
  static void find(const char* name, Function& function) {
    constexpr unsigned kVersion = 12000;
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    runtime::check(cudaGetDriverEntryPointByVersion(name, &found, kVersion, cudaEnableDefault, &result),
                   name);
    if (result != cudaDriverEntryPointSuccess || found == nullptr)
      throw TransportError(std::string("the CUDA driver has no ") + name);
    function = reinterpret_cast<Function>(found);
  }

  PFN_cuStreamWaitValue32_v11070 wait_ = nullptr;
  PFN_cuStreamWriteValue32_v11070 write_ = nullptr;
};

}  // namespace counterflow::runtime
