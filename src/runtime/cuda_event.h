// CUDA calls that throw, events and streams.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <utility>

#include "counterflow/runtime/error.h"

namespace counterflow::runtime {

inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw TransportError(std::string(what) + ": " + cudaGetErrorString(status));
}

/// An event of the current device, given back at the end.
class CudaEvent {
 public:
  CudaEvent() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate"); }
  ~CudaEvent() {
    if (event_ != nullptr) cudaEventDestroy(event_);
  }
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }

  void record(cudaStream_t stream) { check(cudaEventRecord(event_, stream), "cudaEventRecord"); }

  /// Has the stream wait for what was recorded last.
  void block(cudaStream_t stream) const {
    check(cudaStreamWaitEvent(stream, event_, 0), "cudaStreamWaitEvent");
  }

  bool is_done() const { return cudaEventQuery(event_) == cudaSuccess; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// A stream of the current device for transfers: of the highest priority, and not held up by the default one.
class LineStream {
 public:
  LineStream() {
    int last = 0;
    int first = 0;
    check(cudaDeviceGetStreamPriorityRange(&last, &first), "cudaDeviceGetStreamPriorityRange");
    check(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, first), "cudaStreamCreate");
  }
  ~LineStream() { cudaStreamDestroy(stream_); }
  LineStream(const LineStream&) = delete;
  LineStream& operator=(const LineStream&) = delete;

  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace counterflow::runtime
