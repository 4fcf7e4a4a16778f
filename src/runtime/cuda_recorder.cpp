#include "counterflow/runtime/cuda_recorder.h"

#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <chrono>
#include <exception>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "counterflow/error.h"
#include "cuda_event.h"
#include "random_recording.h"
#include "stream_values.h"

namespace counterflow::runtime {
namespace {

/// More than any rank's passes in a step. Their seeds take half a megabyte.
constexpr std::size_t kMostScopes = std::size_t{1} << 16;

/// The generators of a graph. What they start from lies on the device, where every replay reads it anew.
class RecordedRandom : public RandomRecording {
 public:
  explicit RecordedRandom(c10::DeviceIndex device)
      : device_(device),
        places_(at::zeros({static_cast<std::int64_t>(kMostScopes)}, options())),
        offset_(at::zeros({1}, options())) {}

  at::Generator make_generator(std::uint64_t seed) override {
    if (seeds_.size() == kMostScopes)
      throw InvalidConfig("more than " + std::to_string(kMostScopes) + " random scopes draw in one step");
    // As CUDAGeneratorState::register_graph() and capture_prologue() make it, with one's own places.
    auto state = c10::make_intrusive<at::CUDAGeneratorState>(seed);
    state->seed_extragraph_ = places_.select(0, static_cast<std::int64_t>(seeds_.size()));
    state->offset_extragraph_ = offset_;
    state->capturing_ = true;
    seeds_.push_back(seed);
    return at::make_generator<at::CUDAGeneratorImpl>(device_, std::move(state));
  }

  const std::vector<std::uint64_t>& seeds() const { return seeds_; }

  void start_from(std::vector<std::uint64_t> seeds) {
    const auto count = static_cast<std::int64_t>(seeds.size());
    if (count == 0) return;
    places_.narrow(0, 0, count).copy_(at::from_blob(seeds.data(), {count}, at::kLong), /*non_blocking=*/true);
  }

 private:
  at::TensorOptions options() const { return at::TensorOptions(at::kLong).device(at::kCUDA, device_); }

  const c10::DeviceIndex device_;
  const at::Tensor places_, offset_;
  std::vector<std::uint64_t> seeds_;
};

/// The calling thread's scopes draw for a recording.
class DrawsFor {
 public:
  explicit DrawsFor(RandomRecording& recording) { current_random_recording() = &recording; }
  ~DrawsFor() { current_random_recording() = nullptr; }
  DrawsFor(const DrawsFor&) = delete;
  DrawsFor& operator=(const DrawsFor&) = delete;
};

/// Which action the device has come to, in host memory that it writes to on a stream of its own: what
/// computes waits for nothing of this.
class Progress {
 public:
  Progress() {
    check(cudaHostAlloc(reinterpret_cast<void**>(&last_), sizeof *last_, cudaHostAllocMapped),
          "cudaHostAlloc");
    *last_ = kNone;
    check(cudaHostGetDevicePointer(&on_device_, last_, 0), "cudaHostGetDevicePointer");
  }
  ~Progress() { cudaFreeHost(last_); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Once what the stream has been asked for is done.
  void note(cudaStream_t stream, int action) {
    CudaEvent reached;
    reached.record(stream);
    reached.block(stream_.get());
    values_.write(stream_.get(), on_device_, static_cast<std::uint32_t>(action));
  }

  /// The stream waits until all is noted.
  void join(cudaStream_t stream) const {
    CudaEvent end;
    end.record(stream_.get());
    end.block(stream);
  }

  int last() const { return static_cast<int>(*static_cast<volatile std::uint32_t*>(last_)); }

 private:
  static constexpr auto kNone = static_cast<std::uint32_t>(-1);

  const StreamValues values_;
  const LineStream stream_;
  std::uint32_t* last_ = nullptr;
  void* on_device_ = nullptr;
};

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
    random_.emplace(device_);
    if (!progress_) progress_.emplace();
    marked_ = false;
    graph_ = std::make_unique<at::cuda::CUDAGraph>();
    // Other threads may ask CUDA for anything meanwhile.
    graph_->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
    try {
      const DrawsFor scopes(*random_);
      records_ = true;
      body();
      records_ = false;
      if (marked_) progress_->join(stream_.stream());
      graph_->capture_end();
    } catch (const PeerFailed&) {
      give_up();
      throw;
    } catch (const std::exception& error) {
      give_up();
      throw InvalidConfig(std::string("this step cannot be recorded: ") + error.what());
    }
  }

  void mark(int action) override {
    if (!records_) return;
    progress_->note(c10::cuda::getCurrentCUDAStream(device_).stream(), action);
    marked_ = true;
  }

  int progress() const override { return progress_ ? progress_->last() : -1; }

  const std::vector<std::uint64_t>& seeds() const override { return random_.value().seeds(); }

  void replay(const std::vector<std::uint64_t>& seeds) override {
    random_.value().start_from(seeds);
    graph_->replay();
  }

  /// The driver may wait for the last replay: it is waited for here, before, since other threads would be
  /// held up in the driver that have to let go of what the replay waits for. For a while: what it waits for
  /// may never come.
  void forget() override {
    const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (graph_ && cudaStreamQuery(stream_) == cudaErrorNotReady &&
           std::chrono::steady_clock::now() < give_up)
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    graph_.reset();
  }

 private:
  static void order(const c10::cuda::CUDAStream& first, const c10::cuda::CUDAStream& then) {
    if (first == then) return;
    CudaEvent event;
    event.record(first.stream());
    event.block(then.stream());
  }

  void give_up() noexcept {
    records_ = false;
    try {
      graph_->capture_end();
    } catch (const std::exception&) {
      // The capture had ended already: that is why there is a failure.
    }
    graph_.reset();
  }

  const c10::DeviceIndex device_;
  const c10::cuda::CUDAStream stream_;
  std::optional<RecordedRandom> random_;
  std::optional<Progress> progress_;  ///< from the first recording on
  bool records_ = false;
  bool marked_ = false;  ///< anything in the recording
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
};

}  // namespace

std::shared_ptr<StepRecorder> make_cuda_recorder(int device) {
  return std::make_shared<CudaRecorder>(static_cast<c10::DeviceIndex>(device));
}

}  // namespace counterflow::runtime
