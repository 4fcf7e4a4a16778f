#include "fake_device.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

using counterflow::fake::Work;

struct CUstream_st {
  std::deque<Work> work;
};

struct CUevent_st {
  std::shared_ptr<std::atomic<bool>> reached = std::make_shared<std::atomic<bool>>(true);
};

namespace counterflow::fake {
namespace {

class Device {
 public:
  Device() : compute_(make_stream()) {
    std::thread([this] { run(); }).detach();
  }

  cudaStream_t compute() const { return compute_; }

  cudaStream_t make_stream() {
    const std::lock_guard lock(mutex_);
    return &streams_.emplace_back();
  }

  void enqueue(cudaStream_t stream, Work work) {
    const std::lock_guard lock(mutex_);
    stream->work.push_back(std::move(work));
  }

  bool is_idle(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    return stream->work.empty();
  }

  bool is_idle() {
    const std::lock_guard lock(mutex_);
    return std::all_of(streams_.begin(), streams_.end(), [](const auto& one) { return one.work.empty(); });
  }

 private:
  void run() {
    poll([this] {
      while (advance()) continue;
      return false;
    });
  }

  /// Whether any stream got ahead.
  bool advance() {
    const std::lock_guard lock(mutex_);
    bool any = false;
    for (CUstream_st& stream : streams_) {
      while (!stream.work.empty() && stream.work.front()()) {
        stream.work.pop_front();
        any = true;
      }
    }
    return any;
  }

  std::mutex mutex_;
  std::list<CUstream_st> streams_;
  const cudaStream_t compute_;
};

/// Lives as long as the process does, whose threads may be at work until the very end.
Device& device() {
  static Device& one = *new Device;
  return one;
}

}  // namespace

void poll(const std::function<bool()>& condition) {
  while (!condition()) std::this_thread::sleep_for(std::chrono::microseconds(50));
}

void enqueue(cudaStream_t stream, Work work) {
  device().enqueue(stream, std::move(work));
}

cudaStream_t compute_stream() {
  return device().compute();
}

void synchronize(cudaStream_t stream) {
  poll([stream] { return device().is_idle(stream); });
}

void synchronize_device() {
  poll([] { return device().is_idle(); });
}

}  // namespace counterflow::fake

namespace fake = counterflow::fake;

extern "C" {

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int, int) {
  *stream = fake::device().make_stream();
  return cudaSuccess;
}

/// What it was asked for before is still done, as by the real one.
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return fake::device().is_idle(stream) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  fake::enqueue(stream, [reached = event->reached] { return reached->load(); });
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->reached = std::make_shared<std::atomic<bool>>(false);
  fake::enqueue(stream, [reached = event->reached] { return *reached = true; });
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  return *event->reached ? cudaSuccess : cudaErrorNotReady;
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "an error of the fake device";
}

}  // extern "C"
