// libtorch's devices, streams, graphs and generators of the fake device, in place of libc10_cuda's and
// libtorch_cuda's. Events and guards are libtorch's own (CUDAGuardImpl).
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/cuda/impl/CUDAGuardImpl.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>

#include "fake_graph.h"
#include "fake_queues.h"

struct CUgraphExec_st {
  std::shared_ptr<const counterflow::fake::Graph> graph;
};

namespace {

namespace fake = counterflow::fake;

/// As many as libtorch has.
constexpr std::size_t kPool = 32;

/// By libtorch's number: the default stream, then those of the pool.
const std::array<cudaStream_t, 1 + kPool>& streams() {
  static const auto all = [] {
    std::array<cudaStream_t, 1 + kPool> made{fake::compute_stream()};
    for (std::size_t i = 1; i < made.size(); ++i) made[i] = fake::make_stream();
    return made;
  }();
  return all;
}

c10::cuda::CUDAStream stream_of(c10::StreamId id) {
  const c10::Device device(c10::DeviceType::CUDA, 0);
  return c10::cuda::CUDAStream(c10::Stream(c10::Stream::UNSAFE, device, id));
}

thread_local c10::StreamId t_current = 0;
std::atomic<c10::StreamId> g_next = 0;

[[noreturn]] void refuse() {
  throw std::logic_error("the fake device draws no random numbers");
}

}  // namespace

namespace c10::cuda {

C10_REGISTER_GUARD_IMPL(CUDA, impl::CUDAGuardImpl)

void set_device(DeviceIndex, bool) {}
DeviceIndex device_count() noexcept {
  return 1;
}
cudaError_t GetDevice(DeviceIndex* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t SetDevice(DeviceIndex, bool) {
  return cudaSuccess;
}
cudaError_t MaybeSetDevice(DeviceIndex) {
  return cudaSuccess;
}
DeviceIndex ExchangeDevice(DeviceIndex) {
  return 0;
}

CUDAStream getDefaultCUDAStream(DeviceIndex) {
  return stream_of(0);
}
CUDAStream getCurrentCUDAStream(DeviceIndex) {
  return stream_of(t_current);
}
void setCurrentCUDAStream(CUDAStream stream) {
  t_current = stream.id();
}
CUDAStream getStreamFromPool(int, DeviceIndex) {
  return stream_of(1 + g_next++ % static_cast<StreamId>(kPool));
}
CUDAStream getStreamFromPool(bool, DeviceIndex device) {
  return getStreamFromPool(0, device);
}

cudaStream_t CUDAStream::stream() const {
  return streams()[id()];
}
bool CUDAStream::query() const {
  const cudaError_t status = cudaStreamQuery(stream());
  if (status != cudaErrorNotReady) C10_CUDA_CHECK(status);
  return status == cudaSuccess;
}
void CUDAStream::synchronize() const {
  C10_CUDA_CHECK(cudaStreamSynchronize(stream()));
}

void c10_cuda_check_implementation(int32_t error, const char*, const char*, uint32_t, bool) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA error: ") + cudaGetErrorString(static_cast<cudaError_t>(error)));
}

}  // namespace c10::cuda

namespace at::cuda {

CUDAGraph::CUDAGraph(bool keep_graph)
    : capture_stream_(c10::cuda::getCurrentCUDAStream()), keep_graph_(keep_graph) {}

CUDAGraph::~CUDAGraph() {
  reset();
}

void CUDAGraph::capture_begin(MempoolId_t, cudaStreamCaptureMode) {
  capture_stream_ = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(fake::begin_capture(capture_stream_));
}

void CUDAGraph::capture_end() {
  std::shared_ptr<fake::Graph> graph;
  C10_CUDA_CHECK(fake::end_capture(capture_stream_, graph));
  graph_exec_ = new CUgraphExec_st{std::move(graph)};
}

void CUDAGraph::replay() {
  TORCH_CHECK(graph_exec_ != nullptr, "a graph is replayed that has not been captured");
  fake::Graph::launch(graph_exec_->graph, c10::cuda::getCurrentCUDAStream());
}

void CUDAGraph::reset() {
  if (graph_exec_ != nullptr && fake::queues().graphs_wait) {
    const fake::InDriver driver;
    fake::poll([this] { return !graph_exec_->graph->is_under_way(); });
  }
  delete std::exchange(graph_exec_, nullptr);
}

}  // namespace at::cuda

namespace at {

CUDAGeneratorImpl::CUDAGeneratorImpl(DeviceIndex device, c10::intrusive_ptr<CUDAGeneratorState> state)
    : c10::GeneratorImpl(Device(kCUDA, device), DispatchKeySet(c10::DispatchKey::CUDA)),
      state_(std::move(state)) {}
void CUDAGeneratorImpl::set_current_seed(uint64_t) {
  refuse();
}
void CUDAGeneratorImpl::set_offset(uint64_t) {
  refuse();
}
uint64_t CUDAGeneratorImpl::get_offset() const {
  refuse();
}
uint64_t CUDAGeneratorImpl::current_seed() const {
  refuse();
}
uint64_t CUDAGeneratorImpl::seed() {
  refuse();
}
void CUDAGeneratorImpl::set_state(const c10::TensorImpl&) {
  refuse();
}
c10::intrusive_ptr<c10::TensorImpl> CUDAGeneratorImpl::get_state() const {
  refuse();
}
void CUDAGeneratorImpl::graphsafe_set_state(const c10::intrusive_ptr<GeneratorImpl>&) {
  refuse();
}
c10::intrusive_ptr<c10::GeneratorImpl> CUDAGeneratorImpl::graphsafe_get_state() const {
  refuse();
}
CUDAGeneratorImpl* CUDAGeneratorImpl::clone_impl() const {
  refuse();
}

}  // namespace at
