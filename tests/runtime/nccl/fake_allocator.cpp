#include "fake_allocator.h"

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "fake_memory.h"
#include "fake_nccl.h"

namespace counterflow::fake {
namespace {

using namespace c10::cuda::CUDACachingAllocator;  // the types below

[[noreturn]] void refuse() {
  throw std::logic_error("the fake device's allocator cannot do that");
}

class Allocator : public CUDAAllocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* memory = raw_alloc(bytes);
    return {memory, memory, &release, c10::Device(c10::DeviceType::CUDA, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
  void* raw_alloc(std::size_t bytes) override {
    return fake::allocate(bytes, c10::cuda::getCurrentCUDAStream().stream());
  }
  void recordStream(const c10::DataPtr& memory, c10::cuda::CUDAStream stream) override {
    use_on(memory.get(), stream.stream());
  }
  /// Memory that nobody uses is given back to the device, which waits until all devices of the process are
  /// idle.
  void emptyCache(c10::MempoolId_t) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(faults().frees_take_ms));
    faults().one_process ? synchronize_all_devices() : synchronize_device();
  }
  bool initialized() override { return true; }
  bool isEnabled() const override { return true; }
  std::string name() override { return "fake"; }

  void* raw_alloc_with_stream(std::size_t, cudaStream_t) override { refuse(); }
  void raw_delete(void*) override { refuse(); }
  void init(int) override { refuse(); }
  double getMemoryFraction(c10::DeviceIndex) override { refuse(); }
  void setMemoryFraction(double, c10::DeviceIndex) override { refuse(); }
  std::vector<StreamSegmentSize> getExpandableSegmentSizes(c10::DeviceIndex) override { refuse(); }
  void enable(bool) override { refuse(); }
  void cacheInfo(c10::DeviceIndex, std::size_t*) override { refuse(); }
  void* getBaseAllocation(void*, std::size_t*) override { refuse(); }
  SnapshotInfo snapshot(c10::MempoolId_t, bool) override { refuse(); }
  void beginAllocateToPool(c10::DeviceIndex, c10::MempoolId_t, std::function<bool(cudaStream_t)>) override {
    refuse();
  }
  void endAllocateToPool(c10::DeviceIndex, c10::MempoolId_t) override { refuse(); }
  void releasePool(c10::DeviceIndex, c10::MempoolId_t) override { refuse(); }
  ShareableHandle shareIpcHandle(void*) override { refuse(); }
  std::shared_ptr<void> getIpcDevPtr(std::string) override { refuse(); }
  void recordHistory(bool, CreateContextFn, std::size_t, RecordContext, bool,
                     const std::vector<std::string>&) override {
    refuse();
  }
  void attachOutOfMemoryObserver(OutOfMemoryObserver) override { refuse(); }
  void attachAllocatorTraceTracker(AllocatorTraceTracker) override { refuse(); }
  void enablePeerAccess(c10::DeviceIndex, c10::DeviceIndex) override { refuse(); }
  cudaError_t memcpyAsync(void*, int, const void*, int, std::size_t, cudaStream_t, bool) override {
    refuse();
  }
  std::shared_ptr<AllocatorState> getCheckpointState(c10::DeviceIndex, c10::MempoolId_t) override {
    refuse();
  }
  CheckpointDelta setCheckpointPoolState(c10::DeviceIndex, std::shared_ptr<AllocatorState>) override {
    refuse();
  }
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex) override { refuse(); }
  void resetAccumulatedStats(c10::DeviceIndex) override { refuse(); }
  void resetPeakStats(c10::DeviceIndex) override { refuse(); }

 private:
  static void release(void* memory) { fake::release(memory); }
};

}  // namespace

c10::cuda::CUDACachingAllocator::CUDAAllocator& allocator() {
  static Allocator& one = *new Allocator;
  return one;
}

}  // namespace counterflow::fake

namespace c10::cuda::CUDACachingAllocator {

std::atomic<CUDAAllocator*> allocator = &counterflow::fake::allocator();

}  // namespace c10::cuda::CUDACachingAllocator
