#include "counterflow/runtime/cuda_recorder.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <string>

#include "counterflow/error.h"
#include "cuda_event.h"

namespace counterflow::runtime {
namespace {

class CudaRecorder : public StepRecorder {
 public:
  explicit CudaRecorder(c10::DeviceIndex device)
      : device_(device), stream_(c10::cuda::getStreamFromPool(false, device)) {}

  void run(const std::function<void()>& body) override {
    const c10::cuda::CUDAStream outer = c10::cuda::getCurrentCUDAStream(device_);
    order(outer, stream_);
    {
      const c10::cuda::CUDAStreamGuard guard(stream_);
      body();
    }
    order(stream_, outer);
  }

  void record(const std::function<void()>& body) override {
    check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    c10::cuda::CUDACachingAllocator::emptyCache();  // the graph's memory is its own
    graph_ = std::make_unique<at::cuda::CUDAGraph>();
    // Other threads may ask CUDA for anything meanwhile.
    graph_->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      body();
    } catch (const std::exception& error) {
      give_up();
      throw InvalidConfig(std::string("this step cannot be recorded: ") + error.what());
    }
    graph_->capture_end();
  }

  void replay() override { graph_->replay(); }

 private:
  static void order(const c10::cuda::CUDAStream& first, const c10::cuda::CUDAStream& then) {
    if (first == then) return;
    CudaEvent event;
    event.record(first.stream());
    event.block(then.stream());
  }

  void give_up() noexcept {
    try {
      graph_->capture_end();
    } catch (const std::exception&) {
      // The capture had ended already: that is why there is a failure.
    }
    graph_.reset();
  }

  const c10::DeviceIndex device_;
  const c10::cuda::CUDAStream stream_;
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
};

}  // namespace

std::shared_ptr<StepRecorder> make_cuda_recorder(int device) {
  return std::make_shared<CudaRecorder>(static_cast<c10::DeviceIndex>(device));
}

}  // namespace counterflow::runtime
