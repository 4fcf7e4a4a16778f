#include "fake_device.h"

#include <algorithm>
#include <chrono>
#include <list>
#include <mutex>
#include <thread>
#include <utility>

#include "fake_graph.h"
#include "fake_queues.h"

namespace counterflow::fake {
namespace {

/// What share_devices() was given.
struct Devices {
  std::atomic<bool>* busy = nullptr;
  int own = 0;
  int number = 0;

  void note(bool is_busy) const {
    if (busy != nullptr) busy[own] = is_busy;
  }
};
Devices g_devices;

class Device {
 public:
  Device() : compute_(make_stream()) {
    std::thread([this] { run(); }).detach();
  }

  cudaStream_t compute() const { return compute_; }

  cudaStream_t make_stream() {
    const std::lock_guard lock(mutex_);
    return &streams_.emplace_back(CUstream_st{next_queue()});
  }

  void give_queues() {
    const std::lock_guard lock(mutex_);
    for (CUstream_st& stream : streams_) stream.queue = next_queue();
  }

  /// Something is put where the device finds it, once there is room in a queue.
  void put(const std::shared_ptr<Queue>& queue, const std::function<void()>& what) {
    poll([&] {
      const std::lock_guard lock(mutex_);
      if (is_full(queue)) return false;
      what();
      g_devices.note(true);
      return true;
    });
  }

  bool is_idle(cudaStream_t stream) {
    const std::lock_guard lock(mutex_);
    return stream->work.empty();
  }

  bool is_idle() {
    const std::lock_guard lock(mutex_);
    return has_nothing_to_do();
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
    if (any) g_devices.note(!has_nothing_to_do());
    return any;
  }

  bool has_nothing_to_do() const {
    return std::all_of(streams_.begin(), streams_.end(), [](const auto& one) { return one.work.empty(); });
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

cudaError_t enqueue(cudaStream_t stream, Work work, const std::vector<const void*>& memory) {
  if (const auto capture = stream->point.capture) return capture->add(stream, std::move(work), memory);
  check_takes_part(stream);
  enqueue_now(stream, std::move(work));
  return cudaSuccess;
}

void enqueue_now(cudaStream_t stream, Work work) {
  const InDriver driver;
  device().put(stream->queue, [&] { stream->work.push_back(in_turn(stream->queue, std::move(work))); });
}

void enqueue_parts(cudaStream_t stream, Work whole, const std::vector<std::shared_ptr<Queue>>& queues,
                   const std::function<void(std::size_t part)>& put) {
  const InDriver driver;
  std::size_t part = 0;
  const auto put_some = [&] {
    while (part < queues.size() && !is_full(queues[part])) put(part++);
  };
  device().put(nullptr, [&] {
    stream->work.push_back(std::move(whole));
    put_some();
  });
  while (part < queues.size()) device().put(queues[part], put_some);
}

void give_queues() {
  device().give_queues();
}

cudaStream_t compute_stream() {
  return device().compute();
}

cudaStream_t make_stream() {
  const InDriver driver;
  return device().make_stream();
}

void synchronize(cudaStream_t stream) {
  poll([stream] { return device().is_idle(stream); });
}

void synchronize_device() {
  poll([] { return device().is_idle(); });
}

void share_devices(std::atomic<bool>* busy, int own, int number) {
  g_devices = {busy, own, number};
}

void synchronize_all_devices() {
  poll([] {
    return std::none_of(g_devices.busy, g_devices.busy + g_devices.number,
                        [](const auto& busy) { return busy.load(); });
  });
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
  *stream = fake::make_stream();
  return cudaSuccess;
}

/// What it was asked for before is still done, as by the real one.
cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (const auto& capture = stream->point.capture) return capture->fail(cudaErrorStreamCaptureUnsupported);
  const fake::InDriver driver;
  return fake::device().is_idle(stream) ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const auto& capture = stream->point.capture) return capture->fail(cudaErrorStreamCaptureUnsupported);
  fake::synchronize(stream);
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  if (const auto capture = fake::capture_of_this_thread())
    return capture->fail(cudaErrorStreamCaptureUnsupported);
  fake::synchronize_device();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const auto& capture = stream->point.capture;
  *status = !capture                          ? cudaStreamCaptureStatusNone
            : capture->error() == cudaSuccess ? cudaStreamCaptureStatusActive
                                              : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  if (!event->recorded) return cudaSuccess;
  if (stream->point.capture || event->point.capture) return fake::wait_in_capture(*stream, *event);
  return fake::enqueue(stream, [reached = event->reached] { return reached->load(); });
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
  event->recorded = true;
  event->point = stream->point;
  if (const auto& capture = stream->point.capture) return capture->error();
  event->reached = std::make_shared<std::atomic<bool>>(false);
  return fake::enqueue(stream, [reached = event->reached] { return *reached = true; });
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (const auto& capture = event->point.capture) return capture->fail(cudaErrorCapturedEvent);
  const fake::InDriver driver;
  return *event->reached ? cudaSuccess : cudaErrorNotReady;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const auto& capture = event->point.capture) return capture->fail(cudaErrorCapturedEvent);
  fake::poll([event] { return event->reached->load(); });
  return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 0;
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *free = *total = 0;
  return cudaSuccess;
}

/// The real one's words.
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureMerge:
      return "operation would result in a merge of separate capture sequences";
    case cudaErrorStreamCaptureUnjoined:
      return "capturing stream has unjoined work";
    case cudaErrorStreamCaptureIsolation:
      return "dependency created on uncaptured work in another stream";
    case cudaErrorCapturedEvent:
      return "operation not permitted on an event last recorded in a capturing stream";
    default:
      return "an error of the fake device";
  }
}

}  // extern "C"
