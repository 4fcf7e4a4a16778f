// Numbers in memory that a stream writes and waits for by itself, in a recorded step too.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

#include <array>
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
    find("cuStreamWriteValue32", write_);
    find("cuStreamBatchMemOp", batch_);
  }

  /// At an address that the device can reach: its own memory's, or mapped host memory's.
  void write(cudaStream_t stream, void* address, std::uint32_t value) const {
    check(write_(stream, to_device(address), value, CU_STREAM_WRITE_VALUE_DEFAULT), "cuStreamWriteValue32");
  }

  /// Waits for `value` there, and then writes `next`. As one operation it takes less of the host's time and
  /// of the device's than as two.
  void await_and_write(cudaStream_t stream, void* address, std::uint32_t value, std::uint32_t next) const {
    std::array<CUstreamBatchMemOpParams, 2> both{};
    both[0].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
    both[0].waitValue.address = to_device(address);
    both[0].waitValue.value = value;
    both[0].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
    both[1].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
    both[1].writeValue.address = to_device(address);
    both[1].writeValue.value = next;
    both[1].writeValue.flags = CU_STREAM_WRITE_VALUE_DEFAULT;
    check(batch_(stream, both.size(), both.data(), 0), "cuStreamBatchMemOp");
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

  PFN_cuStreamWriteValue32_v11070 write_ = nullptr;
  PFN_cuStreamBatchMemOp_v11070 batch_ = nullptr;
};

}  // namespace counterflow::runtime
